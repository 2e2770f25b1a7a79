"""How far predicted ages move, in numbers and as a table."""

import numpy as np
import pandas as pd
import pytest

from brainage.evaluation.robustness import robustness_markdown, summarise_robustness

ROWS = pd.DataFrame(
    {
        "perturbation": ["noise"] * 5 + ["turn"],
        "input": "whole head",
        "change_years": [-1.0, 2.0, 3.0, 0.0, np.nan, 0.5],
        "verdict": ["ok", "ok", "flagged", "ok", "failed", "ok"],
    }
)


def test_failed_scans_are_counted_apart_from_the_sizes_of_the_changes():
    noise, turn = summarise_robustness(ROWS, ("perturbation", "input")).to_dict("records")
    assert (noise["perturbation"], noise["input"], noise["n"]) == ("noise", "whole head", 5)
    assert noise["median_years"] == 1.5 and noise["largest_years"] == 3.0
    assert noise["p95_years"] == pytest.approx(np.percentile([1, 2, 3, 0], 95))
    assert (noise["ok"], noise["flagged"], noise["failed"]) == (0.6, 0.2, 0.2)
    # Of the changes of 2 and 3 years one was flagged; that of the other perturbation is small.
    assert noise["large_yet_ok"] == 0.5 and np.isnan(turn["large_yet_ok"])


def test_the_table_has_a_line_a_perturbation_and_blanks_where_nothing_is_known():
    table = robustness_markdown(
        summarise_robustness(ROWS, ("perturbation", "input")), "perturbation"
    )
    assert table.splitlines()[2:] == [
        "| noise | whole head | 5 | 1.50 | 2.85 | 3.00 | 60% | 20% | 20% | 50% |",
        "| turn | whole head | 1 | 0.50 | 0.50 | 0.50 | 100% | 0% | 0% |  |",
    ]
