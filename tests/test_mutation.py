"""The table of the mutation campaign is joined of several runs."""

from pathlib import Path

from tools.mutation import HEAD, join
from tools.pages import write_below_mark


def test_a_run_replaces_its_own_row_and_keeps_the_others(tmp_path: Path) -> None:
    page = tmp_path / "mutation.md"
    splits, evaluation = "| data: splits | 1 | 8 ", "| evaluation | 1 | 9 "
    rest = "| 4 | 3 | 1 | 0 | 75 (1–99) |"
    write_below_mark(page, "\n".join(["`command`", "", *HEAD, splits + rest, evaluation + rest]))
    again, fresh = evaluation.replace("9", "7") + rest, evaluation.replace("1", "2") + rest
    assert join(page, [again, fresh]) == [again, fresh, splits + rest]
    assert join(None, [fresh]) == [fresh]
