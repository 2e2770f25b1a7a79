"""Tables hold mean, interval and the paper's number for the same axis values."""

import numpy as np
import pandas as pd
import pytest

from pipelines.study import reference
from pipelines.study.table import Results, beside_paper, summarise, to_markdown

RUNS = pd.DataFrame(
    {
        "method": ["bp", "bp", "lfnn_l", "lfnn_l"],
        "leader_fraction": [np.nan, np.nan, 0.2, 0.2],
        "seed": [0, 1, 0, 1],
        "accuracy_percent": [98.0, 99.0, 96.0, 96.0],
    }
)
AXES, METRICS = ("method", "leader_fraction"), ("accuracy_percent",)


def test_interval_is_that_of_student_over_seeds() -> None:
    table = summarise(RUNS, AXES, METRICS)
    assert table["accuracy_percent"].tolist() == [98.5, 96.0]
    # t(0.975, 1) = 12.706; standard error of 98 and 99 is 0.5
    assert table["accuracy_percent_half_width"].tolist() == pytest.approx([6.353, 0.0], abs=1e-3)


def test_one_seed_has_no_interval() -> None:
    table = summarise(RUNS[RUNS["seed"] == 0], AXES, METRICS)
    assert table["accuracy_percent_half_width"].isna().all()


def test_a_seed_that_diverged_narrows_no_interval() -> None:
    runs = pd.concat([RUNS, RUNS.head(1).assign(seed=2, accuracy_percent=np.nan)])
    table = summarise(runs, AXES, METRICS)
    assert table["seeds"].tolist() == [2, 2] and table["diverged"].tolist() == [1, 0]
    assert table["accuracy_percent_half_width"][0] == pytest.approx(6.353, abs=1e-3)
    page = to_markdown(Results(table, AXES, METRICS, pd.DataFrame()), title="T", notes=[])
    assert "| 2, 1 diverged |" in page


def test_the_paper_stands_beside_the_same_axis_values_and_nowhere_else() -> None:
    other = RUNS.assign(leader_fraction=0.25, method="lfnn_l").head(1)
    table = summarise(pd.concat([RUNS, other]), AXES, METRICS)
    beside = beside_paper(table, reference.S1, METRICS)
    assert len(beside) == 3
    assert beside["accuracy_percent_paper"].tolist()[:2] == [98.11, 96.68]
    assert np.isnan(beside["accuracy_percent_paper"].iloc[2])


def test_numbers_without_axes_stand_beside_every_row() -> None:
    runs = pd.DataFrame({"dataset": ["mnist"], "seed": [0], "followers_cosine": [0.9]})
    table = summarise(runs, ["dataset"], ["followers_cosine"])
    beside = beside_paper(table, reference.S10, list(reference.S10[0]))
    assert beside["followers_cosine_paper"].tolist() == [0.40]


def test_a_table_without_the_papers_axes_gets_none_of_its_numbers() -> None:
    runs = RUNS.drop(columns="leader_fraction")
    table = summarise(runs, ["method"], METRICS)
    assert "accuracy_percent_paper" not in beside_paper(table, reference.S1, METRICS)


def test_markdown_shows_ours_with_interval_and_the_number_of_seeds() -> None:
    table = beside_paper(summarise(RUNS, AXES, METRICS), reference.S1, METRICS)
    text = to_markdown(Results(table, AXES, METRICS, pd.DataFrame()), title="T", notes=["N"])
    assert "## T\n\nN\n\n| method | leader fraction | accuracy percent |" in text
    assert "| bp | — | 98.50 ± 6.35 | 98.11 | 2 |" in text


def test_reference_sweeps_are_whole() -> None:
    rows = {tuple(sorted((k, str(v)) for k, v in row.items())) for row in reference.S1}
    assert len(reference.S1) == len(rows) == 21


def test_the_paper_s_sweeps_are_complete_with_train_errors() -> None:
    for rows, datasets in ((reference.S2, 3), (reference.S3, 1), (reference.S7, 5)):
        table = pd.DataFrame(list(rows))
        assert len(table) == datasets * 2 * 10
        assert not table.duplicated(["dataset", "method", "leader_fraction"]).any()
        assert table[["error_percent", "train_error_percent"]].notna().all(axis=None)
    last = pd.DataFrame(list(reference.S3)).set_index(["method", "leader_fraction"])
    assert last.loc[("lfnn_l", 1.0)].tolist()[1:] == [43.38, 29.66]


def test_the_paper_prints_forty_numbers_over_the_follower_weight() -> None:
    table = pd.DataFrame(list(reference.S9))
    best = table.groupby(["dataset", "method"])["error_percent"].idxmin()
    assert len(table) == 40 and set(table.loc[best, "follower_weight"]) == {1.0}
