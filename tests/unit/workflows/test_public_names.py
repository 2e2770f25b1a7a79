"""The names of `import brainage`: few, light, documented, and their examples run."""

import doctest
import subprocess
import sys
import warnings

import pytest

import brainage

HEAVY = ("numpy", "torch", "pandas", "sklearn", "nibabel", "mlflow", "pydantic", "typer")


def test_the_names_are_few_and_each_is_there_and_documented():
    assert len(brainage.__all__) <= 20
    for name in brainage.__all__:
        assert getattr(brainage, name).__doc__, name
        assert name in dir(brainage)


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, brainage; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'brain'"):
        brainage.brain  # noqa: B018


@pytest.mark.parametrize("name", sorted({*brainage.__all__} - {"lfnn", "BrainageError"}))
def test_the_example_of_a_name_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    item = getattr(brainage, name)
    examples = doctest.DocTestFinder(recurse=False).find(item, name, globs={})
    assert examples and examples[0].examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny trainings beat no baseline
        for example in examples:
            runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".db"] == []
