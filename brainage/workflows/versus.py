"""`brainage versus`: a model's predictions beside those of others on the same scans."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainage.errors import CohortError, ConfigError
from brainage.evaluation.bounds import INTERVAL_COLUMNS
from brainage.evaluation.conformal import coverage_table
from brainage.evaluation.out_of_fold import (
    PREDICTED,
    baseline_column,
    baseline_markdown,
    baseline_table,
)
from brainage.files import atomic_write_text, hold_folder
from brainage.plotting.science import plot_versus
from brainage.workflows.console import say, warn
from brainage.workflows.evaluate import read_predictions
from brainage.workflows.results import write_table
from brainage.workflows.tables import SAME_AGE_YEARS


def versus(own: Path, others: Sequence[Path], output: Path) -> pd.DataFrame:
    """Compare predictions with other models' on the scans that all of them have.

    Writes ``versus.csv``, ``versus.md``, the joined ``predictions.csv`` and a picture.

    Parameters
    ----------
    own : pathlib.Path
        Table with `scan_id`, `age_years`, `predicted_age_years`, and intervals where known.
    others : sequence of pathlib.Path
        The same of other models, each named by its file.
    output : pathlib.Path
        Folder to write.

    Returns
    -------
    pandas.DataFrame
        One row a model: errors, correlation, mean gap, paired difference, and coverage of its
        intervals where it has any.

    Raises
    ------
    ConfigError
        If two files have one name.
    CohortError
        If no scan is in all tables, or a scan has different ages.
    """
    tables = {"network": read_predictions(own)}
    for path in others:
        if path.stem in tables:
            raise ConfigError("--predictions", f"two tables are named {path.stem}.", "Rename one.")
        tables[path.stem] = read_predictions(path)
    names = [name for name in tables if name != "network"]
    tables = _shared(tables, str(own))
    first = tables["network"]
    columns = {baseline_column(name): tables[name][PREDICTED].to_numpy() for name in names}
    # Whose scans they are is known if one of the tables tells.
    people = min((table["subject_id"] for table in tables.values()), key=pd.Series.nunique)
    joined = first.assign(subject_id=people, **columns)
    result = baseline_table(joined, names).assign(best_baseline=False)
    coverage = pd.DataFrame([_coverage(tables[name]) for name in result["model"]])
    result = pd.concat([result.drop(columns="best_baseline"), coverage], axis=1)
    with hold_folder(output):
        write_table(joined, output / "predictions.csv")
        write_table(result, output / "versus.csv")
        markdown = baseline_markdown(result.assign(best_baseline=False))
        atomic_write_text(output / "versus.md", markdown)
        plot_versus(joined, names, output / "versus.png")
    say(markdown)
    say(f"written to {output}")
    return result


def _shared(tables: dict[str, pd.DataFrame], where: str) -> dict[str, pd.DataFrame]:
    """Cut all tables to the scans that each of them predicts, in one order.

    Raises
    ------
    CohortError
        If there is none, or a scan has different ages.
    """
    known = {
        name: table[table["age_years"].notna() & table[PREDICTED].notna()].set_index("scan_id")
        for name, table in tables.items()
    }
    first = known["network"]
    shared = first.index[
        [all(scan in table.index for table in known.values()) for scan in first.index]
    ]
    if shared.empty:
        remedy = "Column scan_id must name the scans alike."
        raise CohortError(where, "shares no scan with the other tables.", remedy)
    for name, table in known.items():
        cut = table.loc[shared]
        off = (cut["age_years"] - first.loc[shared, "age_years"]).abs() > SAME_AGE_YEARS
        if off.any():
            problem = (
                f"{int(off.sum())} scans have another age in {name}, the first is {off.idxmax()!r}."
            )
            raise CohortError(where, problem, "Give tables of the same scans.")
        if len(table) > len(shared):
            warn(f"{name}: {len(table) - len(shared)} scans are not in all tables.")
        known[name] = cut.reset_index()
    return known


def _coverage(table: pd.DataFrame) -> dict[str, float]:
    """Return coverage and mean width of a table's intervals; nothing where it has none."""
    names = ("coverage", "mean_width_years")
    found = coverage_table(table) if set(INTERVAL_COLUMNS) <= set(table) else table[:0]
    return {name: float(found.iloc[0][name]) if len(found) else np.nan for name in names}
