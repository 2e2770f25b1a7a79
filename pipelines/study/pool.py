"""Pool trainings of several seeds, of `compare` or `train --folds`: the paired difference.

``python -m pipelines.study.pool FOLDER… --output pooled.csv``
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from brainage.config import load_config
from brainage.errors import CohortError
from brainage.evaluation.metrics import paired_difference, subject_interval
from brainage.workflows.console import run_as_command, say
from brainage.workflows.results import write_table

REFERENCE = "bp"
PREDICTED = "predicted_age_years"


def pool(table: pd.DataFrame) -> pd.DataFrame:
    """Compare each method with backpropagation, by cohort and in all.

    Parameters
    ----------
    table : pandas.DataFrame
        `method`, `seed`, `scan_id`, `subject_id`, `site`, `age_years`, `predicted_age_years`.

    Returns
    -------
    pandas.DataFrame
        One row a cohort, method and way: "each", the mean over seeds of a scan's absolute error,
        or "ensemble", the absolute error of the mean prediction. `mae_years` with its bounds, and
        `difference` from backpropagation with its bounds, resampling people.

    Raises
    ------
    CohortError
        If a scan comes twice, or a method lacks a scan of a seed that another has.
    """
    _check_pairs(table)
    table = table.assign(error=(table[PREDICTED] - table["age_years"]).abs())
    keys = ["site", "scan_id", "subject_id", "age_years", "method"]
    scans = table.groupby(keys).agg(each=("error", "mean"), mean=(PREDICTED, "mean")).reset_index()
    scans["ensemble"] = (scans["mean"] - scans["age_years"]).abs()
    rows = []
    for site, part in [("all", scans), *scans.groupby("site")]:
        for way in ("each", "ensemble"):
            wide = part.pivot(index=["scan_id", "subject_id"], columns="method", values=way)
            people = list(wide.index.get_level_values("subject_id"))
            for method in wide:
                low, high = subject_interval(wide[method], people, seed=0, bootstrap=2000)
                rows.append(
                    {"cohort": site, "method": method, "way": way, "scans": len(wide)}
                    | {"mae_years": wide[method].mean(), "ci_low": low, "ci_high": high}
                    | {
                        f"difference_{name}": value
                        for name, value in paired_difference(
                            wide[method], wide[REFERENCE], people
                        ).items()
                    }
                )
    return pd.DataFrame(rows)


def _check_pairs(table: pd.DataFrame) -> None:
    """Refuse methods on other scans or seeds: their means would differ by these."""
    keys = ["site", "scan_id", "seed"]
    counts = table.groupby([*keys, "method"]).size().unstack("method", fill_value=0)
    odd = counts[(counts != 1).any(axis=1)].reset_index()
    if odd.empty:
        return
    first = odd.iloc[0]
    come = ", ".join(f"{first[method]} of {method}" for method in map(str, counts))
    where = f"scan {first['scan_id']} of {first['site']}, seed {first['seed']}"
    remedy = "Give one of each method: the same scans and seeds."
    raise CohortError("predictions", f"{where} has {come}.", remedy)


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read what `compare` wrote, or of `train --repeats` each network's own predictions."""
    repeats = folder / "predictions_by_repeat.csv"
    if not repeats.exists():
        return pd.read_csv(folder / "predictions.csv")
    config, table = load_config(folder / "config.yaml"), pd.read_csv(repeats)
    return table.assign(method=config.learning.method, seed=config.seed + table["repeat"])


def main() -> None:
    """Read, pool, say, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="outputs of `compare`, `train`")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    result = pool(pd.concat(read_predictions(folder) for folder in arguments.folders))
    write_table(result, arguments.output)
    say(result.round(2).to_string(index=False))


if __name__ == "__main__":
    sys.exit(run_as_command(main))
