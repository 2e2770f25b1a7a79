"""Every example runs, and its page has the picture that it draws.

Pages show what a run of the whole example printed and drew (`python docs/generate.py --run`). Here
the same lines run in this process, with fewer phantoms and epochs.
"""

import importlib.util
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
assert spec is not None and spec.loader is not None
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; what a script changes in this process is undone."""
    import matplotlib.pyplot as plt
    import mlflow

    tracker = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "off")
    monkeypatch.chdir(tmp_path)
    with plt.rc_context():
        plt.switch_backend("agg")
        yield tmp_path
    plt.close("all")
    mlflow.set_tracking_uri(tracker)


def shorten(code: str) -> str:
    """Take 12 phantoms at most, and one epoch or two."""
    code = re.sub(r"subjects=([2-9]\d|1[3-9])\b", "subjects=12", code)
    code = re.sub(r"for _ in range\(\d+\)", "for _ in range(2)", code)
    return re.sub(r'("training\.epochs": )\d+', r"\g<1>1", code)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_draws_its_picture(
    example: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = folder / example.name
    script.write_text(shorten(example.read_text(encoding="utf-8")), encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()
    picture = folder / f"{example.stem}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    page = (ROOT / "docs" / "examples" / f"{example.stem}.md").read_text(encoding="utf-8")
    assert f"({picture.name})" in page


def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    assert "predicted_age_years" in generate.run_example(script, tmp_path)
