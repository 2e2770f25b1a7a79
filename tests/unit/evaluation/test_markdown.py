"""Tables whose every character is known."""

import pandas as pd

from brainage.evaluation.comparison import (
    comparison_markdown,
    comparison_table,
    summarise_comparison,
)
from brainage.evaluation.out_of_fold import baseline_markdown, baseline_table, records


def test_the_comparison_is_this_table() -> None:
    rows = [
        {
            "method": method,
            "schedule": "sequential",
            "seed": seed,
            "fold": 0,
            "mae_years": 5.0,
            "seconds_per_epoch": 2.0 + seed,
            "seconds_to_target": None if (method, seed) == ("lfnn_l", 1) else 20.0 + seed,
            "peak_memory_mb": 900.0,
        }
        for method in ("lfnn_l", "bp")
        for seed in (0, 1)
    ]
    predictions = pd.DataFrame(
        [
            {
                "method": method,
                "seed": seed,
                "fold": 0,
                "scan_id": f"x{n}",
                "subject_id": f"s{n}",
                "age_years": 50.0,
                "predicted_age_years": 50.0 + n + (method == "bp"),
            }
            for method in ("lfnn_l", "bp")
            for seed in (0, 1)
            for n in (1, 2)
        ]
    )
    text = comparison_markdown(summarise_comparison(comparison_table(rows), predictions))
    assert text == (
        "| Method | Runs | MAE, years | MAE − BP, years | s per epoch | s to BP's validation MAE "
        "| Peak memory, MB |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| bp | 2 | 2.50 [2.00, 3.00] | reference | 2.50 [2.00, 3.00] | 20.5 [20.0, 21.0], 2 of 2 "
        "runs | 900 |\n"
        "| lfnn_l | 2 | 1.50 [1.00, 2.00] | -1.00 | 2.50 [2.00, 3.00] | –, 1 of 2 runs | 900 |\n\n"
        "MAE and difference: mean [95 % interval over subjects]; a difference below 0 is better "
        "than BP. Seconds and memory: median [least, greatest] over runs.\n"
    )


def test_the_baselines_are_this_table() -> None:
    table = pd.DataFrame(
        {
            "subject_id": ["a", "b"],
            "age_years": [30.0, 50.0],
            "predicted_age_years": [31.0, 51.0],
            "constant_predicted_age_years": [40.0, 40.0],
            "linear_predicted_age_years": [33.0, 53.0],
        }
    )
    assert baseline_markdown(baseline_table(table)) == (
        "| model | n | MAE, years [95 %] | r | mean gap | network − model, years [95 %] |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        "| network | 2 | 1.00 [1.00, 1.00] | 1.00 | +1.00 | – |\n"
        "| constant | 2 | 10.00 [10.00, 10.00] | – | +0.00 | -9.00 [-9.00, -9.00] |\n"
        "| linear (best baseline) | 2 | 3.00 [3.00, 3.00] | 1.00 | +3.00 | -2.00 [-2.00, -2.00] |\n"
        "\nIntervals resample subjects; a difference below 0 means that the network is better.\n"
    )
    one = baseline_table(table.assign(subject_id="a"))
    assert "| 1.00 | 1.00 | +1.00 | – |" in baseline_markdown(one)
    alone = baseline_table(table[["subject_id", "age_years", "predicted_age_years"]])
    assert records(alone)[0]["model"] == "network" and not alone["best_baseline"].any()
