"""Prediction tables as other commands read them, joined with what a cohort says of the scans."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_string_dtype

from brainage.cohorts.filters import named_columns, select_rows, unknown_texts
from brainage.errors import CohortError
from brainage.evaluation.measures import natural_order, read_numbers, refuse_copies
from brainage.inference.predict import PREDICTED_BY
from brainage.types import BoolArray
from brainage.workflows.cohorts import CohortOptions, read_options
from brainage.workflows.console import say, warn
from brainage.workflows.evaluate import read_predictions

# Ages that are rounded to a year in one table are still the same person's.
SAME_AGE_YEARS = 1.0
# From here on, programs that take the identity away stop counting.
OLDEST_TOLD_YEARS = 89.0


def read_joined(
    predictions: Path | Sequence[Path], cohort_options: CohortOptions | None
) -> pd.DataFrame:
    """Read predictions, and add a cohort's columns by scan id where a cohort is given.

    Several tables are put below each other: controls out of fold, cases by the ensemble.

    Raises
    ------
    CohortError
        If a table cannot be read, two have a scan in common, none of the scans is in the cohort,
        or one has another age there.
    """
    paths = [predictions] if isinstance(predictions, Path) else list(predictions)
    table = pd.concat([read_predictions(path) for path in paths], ignore_index=True)
    where = " and ".join(str(path) for path in paths)
    if len(paths) > 1 and (twice := table["scan_id"].duplicated()).any():
        problem = f"{int(twice.sum())} scans are in two tables, the first is "
        raise CohortError(where, f"{problem}{table.loc[twice, 'scan_id'].iloc[0]!r}.")
    refuse_copies(table, where)
    refuse_several_models([table], where)
    if cohort_options is None:
        return table
    cohort = read_options(cohort_options, require_age=False).cohort.table
    known = table["scan_id"].isin(cohort["scan_id"])
    if not known.any():
        raise CohortError(where, f"shares no scan id with {cohort_options.source}.")
    if not known.all():
        warn(f"{int((~known).sum())} predictions are not in the cohort and are left out.")
    _refuse_other_ages(table[known], cohort, where)
    # What the cohort says of a person is nearer the source than what a prediction table repeats.
    repeated = ["subject_id", "session_id", "sex", "site", "path"]
    kept = table[known].drop(columns=[name for name in repeated if name in table])
    added = cohort.drop(columns=["age_years"])
    overlap = [name for name in added if name in kept and name != "scan_id"]
    return kept.merge(added.drop(columns=overlap), on="scan_id", how="left")


def refuse_several_models(tables: Sequence[pd.DataFrame], where: str) -> None:
    """Refuse predictions by several models: their ages of one scan differ by years.

    Out-of-fold tables and those of other programs do not say by which they are.

    Raises
    ------
    CohortError
        Naming the models, if a calibrated or finetuned one is among others.
    """
    marks = {mark for table in tables if PREDICTED_BY in table for mark in table[PREDICTED_BY]}
    known = sorted(str(mark) for mark in marks if pd.notna(mark))
    if len(known) > 1:
        problem = f"holds predictions by {len(known)} models: {'; '.join(known)}."
        raise CohortError(where, problem, "Predict all scans by one model and version.")


def _refuse_other_ages(table: pd.DataFrame, cohort: pd.DataFrame, where: str) -> None:
    """Refuse predictions of scans that have another age in the cohort: they are other people's."""
    ages = table.set_index("scan_id")["age_years"]
    told = cohort.set_index("scan_id")["age_years"].reindex(ages.index)
    is_open = np.minimum(ages, told) < OLDEST_TOLD_YEARS
    off = ((ages - told).abs() > SAME_AGE_YEARS) & is_open
    if off.any():
        problem = f"{int(off.sum())} scans have another age in the cohort, first {off.idxmax()!r}."
        raise CohortError(where, problem, "Give the cohort of these scans.")


def first_scans(table: pd.DataFrame) -> pd.DataFrame:
    """Return the first scan of each person: by age, then by id."""
    ordered = table.sort_values(["age_years", "scan_id"], key=natural_order)
    first = ordered.drop_duplicates("subject_id").sort_index()
    if len(first) < len(table):
        warn(f"{len(table) - len(first)} repeated scans are left out: one scan a person.")
    return first.reset_index(drop=True)


def select_cases(table: pd.DataFrame, group: str) -> BoolArray:
    """Who is a case: by a filter such as "CDR > 0", or by a column of two numbers.

    Of a column the greater number makes a case, and that is said. Rows without a value are
    neither, so that a filter is needed where blank means healthy. Of two words, AD and CN, none is
    greater: a filter says which.

    Raises
    ------
    CohortError
        If the expression is wrong or a column in it holds codes of missing values, which would be
        cases or controls; or the column has not two numbers.
    """
    if group not in table:
        cases = select_rows(table, group)
        if told := unknown_texts(table, group):
            warn(told)
        named = named_columns(table, group)
        for name in named:
            if not is_string_dtype(table[name]):
                read_numbers(table[name], "--group")
        blank = int((cases & table[named].isna().any(axis=1)).sum())
        if blank:
            warn(f"{blank} cases have no {' or '.join(named)}: {group!r} holds for a blank cell.")
        return cases
    values = sorted(table[group].dropna().unique(), key=str)
    blank = int(table[group].isna().sum())
    if len(values) != 2 or blank:
        problem = f"column {group} has {len(values)} values and {blank} blank cells, not 2 and 0."
        raise CohortError("--group", problem, f'Give a filter, for example "{group} > 0".')
    if is_string_dtype(table[group]):
        problem = f"column {group} holds words, {values[0]!r} and {values[1]!r}."
        raise CohortError("--group", problem, f"Say which are cases: \"{group} == '{values[0]}'\".")
    control, case = sorted(values)
    say(f"cases: {group} {case}; controls: {group} {control}")
    return np.asarray(table[group] == case, dtype=bool)
