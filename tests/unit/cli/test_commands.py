"""What every command has in common: its help, and answers before anything heavy is loaded."""

import json
import subprocess
import sys
from unittest.mock import Mock

import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

import brainage.cli.main  # noqa: F401  registers the commands
from brainage.cli.command import COHORTS, LEARNING, MODELS, SCANS, SERVING, app

HEAVY = ("torch", "monai", "pandas", "numpy", "mlflow", "matplotlib", "sklearn", "nibabel", "scipy")
COMMANDS = typer.main.get_command(app).commands


def modules_after(code: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """What a program printed, and which heavy modules it had loaded at its end."""
    told = f"print('\\nloaded', *[m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    program = f"import atexit, sys\natexit.register(lambda: {told})\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done, done.stderr.splitlines()[-1].split()[1:]


def run_light(*words: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    return modules_after(
        f"sys.argv = ['brainage', *{list(words)}]\nfrom brainage.cli.start import main\nmain()"
    )


def test_importing_the_package_loads_nothing_heavy():
    done, loaded = modules_after("import brainage")
    assert done.returncode == 0 and loaded == []


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_help_needs_no_heavy_import(words):
    done, loaded = run_light(*words)
    assert done.returncode == 0 and loaded == []


WRONG = {
    "predict nope.nii.gz": "nope.nii.gz: is not there",
    "predict cohort.csv": "Did you mean --cohort cohort.csv?",
    "predict demo --cohort demo": "either scans or --cohort",
    "report nope.nii": "nope.nii: is not there",
    "report": "either SCAN, or --predictions",
    "report a.nii --age 300": "--age",
    "explain --output o --method magic": "magic",
    "selftest --model nowhere": "nowhere: is not there",
    "train --cohort nowhere.csv --output o": "nowhere.csv: is not there",
    "train --cohort scan.nii.gz --output o": "Did you mean `brainage predict scan.nii.gz`?",
    "train --cohort demo --output o --set trainning.epochs=3": "Did you mean training.epochs",
    "train --cohort demo --output o --set training.epohcs=3": "Did you mean training.epochs",
    "train --cohort demo --output o --preset phantm": "Did you mean phantom?",
    "train --cohort demo --output o --baselines linaer": "Did you mean linear?",
    "train --cohort demo --output o --device gpu": "--device",
    "train --cohort demo --output o --set a.b=1": "a.b",
    "train --cohort demo --output o --leader-fraction 7": "leader_fraction",
    "train --cohort demo --output o --column age": "--column",
    "compare --cohort demo --methods bp,lfnn_": "Did you mean lfnn",
    "prepare --cohort nowhere --output o": "nowhere: is not there",
    "evaluate --output o": "--predictions",
    "evaluate --output o --predictions nope.csv": "nope.csv: is not there",
    "groups --predictions nope.csv --group a --output o": "nope.csv: is not there",
    "calibrate --model nowhere --cohort demo --output o": "nowhere: is not there",
    "finetune --model nowhere --cohort demo --output o": "nowhere: is not there",
    "release --model nowhere --output o": "nowhere: is not there",
    "robustness --model nowhere --cohort demo --output o": "nowhere: is not there",
    "robustness --cohort nowhere --output o": "nowhere: is not there",
    "register --model nowhere": "nowhere: is not there",
    "mlflow --tracking-uri sqlite:///nope.db": "nope.db: is not there",
    "benchmark --output o --network resnet33": "Did you mean resnet32?",
    "cut --blocks 0": "--blocks",
    "simulate --devices four": "--devices",
    "study s99": "s99",
    "speed --output o --plan onedevice": "Did you mean one_device?",
    "predit scan.nii": "Did you mean 'predict'",
}
ALL_IN_TURN = """
import contextlib, io, json
from brainage.cli.start import main

answers = {}
for words in json.loads(sys.argv[1]):
    sys.argv, told, code = ["brainage", *words.split()], io.StringIO(), 0
    with contextlib.redirect_stderr(told):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    answers[words] = code, told.getvalue(), [name for name in HEAVY if name in sys.modules]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Exit code, error output and heavy modules of each command: one process runs them all."""
    program = f"import sys\nHEAVY = {HEAVY}\n{ALL_IN_TURN}"
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(list(WRONG))],
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("empty"),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("words", WRONG)
def test_wrong_input_is_told_in_one_line_before_anything_heavy_is_loaded(words, answers):
    code, told, loaded = answers[words]
    assert code == 2 and len(told.splitlines()) == 1 and WRONG[words] in told
    assert loaded == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_a_panel(name):
    assert COMMANDS[name].rich_help_panel in (SCANS, COHORTS, LEARNING, MODELS, SERVING)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_text_loses_its_brackets_as_markup(name):
    texts = [COMMANDS[name].help, *(getattr(part, "help", "") for part in COMMANDS[name].params)]
    for text in filter(None, texts):
        assert Text.from_markup(text).plain == text


def test_a_default_that_is_worked_out_later_is_shown(capsys):
    with pytest.raises(SystemExit):
        app(["train", "--help"], prog_name="brainage")
    assert "user cache" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_scan_that_is_missing_among_others_is_left_to_the_ledger(tmp_path):
    from brainage.workflows.inputs import check_scans

    there = tmp_path / "a.nii"
    there.touch()
    check_scans([str(there), "nope.nii"])


@pytest.mark.parametrize(
    ("options", "age", "level"),
    [(["--age", "45,5", "--level", "0,8"], 45.5, 0.8), (["--age", "45.5"], 45.5, 0.9)],
)
def test_numbers_may_have_a_decimal_comma(options, age, level, tmp_path, monkeypatch):
    from brainage.workflows import report

    asked = {}
    monkeypatch.setattr(report, "write_report", lambda *_, **given: asked.update(given) or Mock())
    (tmp_path / "a.nii").touch()
    done = CliRunner().invoke(app, ["report", str(tmp_path / "a.nii"), *options])
    assert done.exit_code == 0, done.output
    assert (asked["age_years"], asked["level"]) == (age, level)


@pytest.mark.parametrize("age", ["-1", "121", "120,5", "old", "1,2,3", "nan"])
def test_number_out_of_range_is_refused(age, tmp_path):
    (tmp_path / "a.nii").touch()
    done = CliRunner().invoke(app, ["report", str(tmp_path / "a.nii"), "--age", age])
    assert done.exit_code == 2 and "--age" in done.output
