"""What `train`, `compare` and `benchmark` do with a folder that holds a run."""

import pytest

from brainage.errors import TrainingError
from pipelines.train import CHECKPOINT, TrainOptions, check_output


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
        check_output(TrainOptions(tmp_path))
    check_output(TrainOptions(tmp_path, resume=True))
    assert (run / CHECKPOINT).exists()


def test_what_is_replaced_leaves_no_numbers_of_the_old_run(run, tmp_path):
    check_output(TrainOptions(tmp_path, overwrite=True))
    assert [path.name for path in run.iterdir()] == ["mine.txt"]
