"""What `train`, `compare`, `benchmark` and `phantoms` do with a folder that holds a run."""

import numpy as np
import pandas as pd
import pytest

from brainage.cli.main import app
from brainage.cohorts.cohort import Cohort
from brainage.errors import BrainageError, TrainingError
from brainage.files import temporary_name
from brainage.training.options import CHECKPOINT, TrainOptions
from brainage.training.run import PreparedCohort
from brainage.workflows import train
from brainage.workflows.results import describe_mae
from brainage.workflows.train import check_output


@pytest.fixture(params=["", "fold-1", "repeat-0-fold-1", "runs/bp-seed0-fold0"])
def run(request, tmp_path):
    """Folder of a run, at each place where a command keeps one."""
    folder = tmp_path / request.param
    (folder / CHECKPOINT).parent.mkdir(parents=True)
    for name in (CHECKPOINT, "metrics.json", "mine.txt"):
        (folder / name).touch()
    return folder


def test_a_run_is_not_done_again_unasked(run, tmp_path):
    with pytest.raises(TrainingError, match=r"already holds a run.*--resume"):
        check_output(TrainOptions(output=tmp_path))
    check_output(TrainOptions(output=tmp_path, resume=True))
    assert (run / CHECKPOINT).exists()


def test_what_is_replaced_leaves_no_numbers_of_the_old_run(run, tmp_path):
    check_output(TrainOptions(output=tmp_path, overwrite=True))
    assert [path.name for path in run.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("held", "options", "told"),
    [
        ("fold-0", {}, "fold-0"),
        ("fold-0", {"folds": 2, "repeats": 2}, "fold-0"),
        ("", {"folds": 2}, "a single split"),
        ("fold-0", {"folds": 2}, None),
        ("repeat-0-fold-0", {"folds": 2, "repeats": 3}, None),
        ("", {}, None),
    ],
)
def test_resuming_with_other_folds_replaces_no_finished_run(
    held, options, told, tmp_path, monkeypatch
):
    names = [f"s{number}" for number in range(9)]
    table = pd.DataFrame({"scan_id": names, "subject_id": names, "age_years": 30.0, "path": ""})
    cohort = Cohort(table.assign(session_id="", sex="", site=""), "here")
    prepared = PreparedCohort(cohort, np.zeros((9, 28, 32, 28), np.float16))
    monkeypatch.setattr(train, "prepare_options", lambda *_: (prepared, []))
    (tmp_path / held / CHECKPOINT).parent.mkdir(parents=True)
    (tmp_path / held / CHECKPOINT).touch()
    message = "is damaged" if told is None else f"other runs than these: {told}"
    with pytest.raises(BrainageError, match=message):
        train.train("here", tmp_path, "phantom", resume=True, **options)


def test_what_killed_phantoms_left_unfinished_is_removed(tmp_path):
    left = tmp_path / "sub-0001" / "anat" / temporary_name()
    left.parent.mkdir(parents=True)
    left.touch()
    with pytest.raises(SystemExit) as ended:
        app(["phantoms", "--output", str(tmp_path), "--subjects", "1"])
    assert ended.value.code == 0 and (tmp_path / "cohort.csv").exists() and not left.exists()


def test_the_error_of_a_single_person_is_told_without_an_interval():
    metrics = {"mae_years": 2.0, "mae_ci_low": None, "mae_ci_high": None, "n": 1}
    assert describe_mae(metrics) == "MAE 2.00 years (n 1)"
    metrics |= {"mae_ci_low": 1.0, "mae_ci_high": 3.5, "n": 2}
    assert describe_mae(metrics) == "MAE 2.00 years (95 % CI 1.00 to 3.50, n 2)"
