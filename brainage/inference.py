"""Scans in, predicted ages out: one row or one ledger entry for every input."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from brainage.bundle import Bundle
from brainage.errors import BundleError
from brainage.prediction import predict_ages
from brainage.preparation import prepare_cohort
from brainage.types import LedgerEntry

PREDICTION_COLUMNS = ("scan_id", "age_years", "predicted_age_years", "brain_age_gap_years")
_CHUNK = 64


@dataclass(frozen=True)
class Predictions:
    """Result of `predict_scans`.

    Attributes
    ----------
    table : pandas.DataFrame
        The input's columns with predicted_age_years and brain_age_gap_years, one row a scan
        that could be used; the file columns of `PREDICTION_COLUMNS` come first.
    entries : list of LedgerEntry
        One for every input, used or not.
    """

    table: pd.DataFrame
    entries: list[LedgerEntry]

    @property
    def failed(self) -> list[LedgerEntry]:
        """Inputs without a prediction."""
        return [entry for entry in self.entries if entry.verdict == "failed"]


def scans_table(paths: list[str]) -> tuple[pd.DataFrame, list[LedgerEntry]]:
    """Table of scans given by path. The id of a scan is its path as given.

    So three files called ``anat.nii.gz`` in three folders stay three. A path given twice is
    predicted once; its second mention is a failed entry.
    """
    first: dict[str, str] = {}
    repeated: list[LedgerEntry] = []
    for path in paths:
        if path in first:
            entry = LedgerEntry(
                f"{path}#{len(repeated) + 2}", "input", "failed", "the path was given twice."
            )
            repeated.append(entry)
        first.setdefault(path, path)
    names = list(first)
    table = pd.DataFrame({"scan_id": names, "age_years": np.nan, "path": names})
    return table, repeated


def predict_scans(
    bundle: Bundle,
    scans: pd.DataFrame,
    cache_dir: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Prepare and predict scans; a scan that cannot be used is an entry, not an error.

    Parameters
    ----------
    scans : pandas.DataFrame
        `scan_id`, `path`, `age_years` (NaN where unknown) and any other columns.
    cache_dir : pathlib.Path
        Folder of prepared arrays.
    on_progress : callable, optional
        Called with (scans done, scans in all).

    Raises
    ------
    BundleError
        If the model was trained on images: it knows no ages.
    """
    if bundle.config.images is not None:
        raise BundleError("--model", f"tells classes of {bundle.config.images.dataset}, not ages.")
    tables, entries = [], []
    for start in range(0, len(scans), _CHUNK):  # bounded memory for cohorts of any size
        chunk = scans.iloc[start : start + _CHUNK]
        prepared = prepare_cohort(
            list(chunk["path"]),
            list(chunk["scan_id"]),
            bundle.config.preprocessing,
            cache_dir,
            on_progress=_shifted(on_progress, start, len(scans)),
        )
        used = chunk.iloc[prepared.kept].copy()
        used["predicted_age_years"] = predict_ages(bundle.model, bundle.target, prepared.arrays)
        used["brain_age_gap_years"] = used["predicted_age_years"] - used["age_years"]
        tables.append(used)
        entries.extend(prepared.entries)
    table = pd.concat(tables, ignore_index=True) if tables else scans.iloc[:0]
    others = [name for name in table.columns if name not in PREDICTION_COLUMNS]
    return Predictions(table[[*PREDICTION_COLUMNS, *others]], entries)


def _shifted(
    on_progress: Callable[[int, int], None] | None, start: int, total: int
) -> Callable[[int, int], None] | None:
    if on_progress is None:
        return None
    return lambda done, _: on_progress(start + done, total)
