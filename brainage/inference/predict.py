"""Predict the ages of scans: one row or one ledger entry for every input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from brainage.cohorts.duplicates import hash_arrays
from brainage.cohorts.people import list_files
from brainage.config import Config
from brainage.errors import BundleError
from brainage.evaluation.bounds import DEFAULT_LEVEL
from brainage.inference.columns import NUMBER_COLUMNS, number_columns
from brainage.inference.header import remark_contradicted
from brainage.prepared.arrays import HERE, Preparation, prepare_cohort
from brainage.prepared.store import CODE_VERSION
from brainage.types import DoubleArray, HalfArray, LedgerEntry

if TYPE_CHECKING:
    from brainage.model.bundle import Bundle

PREDICTION_COLUMNS = ("scan_id", "age_years", "predicted_age_years", "brain_age_gap_years")
ADDED_COLUMNS = (*NUMBER_COLUMNS, "verdict", "reasons")
PREDICTED_BY, INTERVAL_LEVEL = "predicted_by", "interval_level"
SAME_VOXELS = "holds the same voxels as"
_CHUNK = 64


@dataclass(frozen=True)
class Predictions:
    """Result of `predict_scans`.

    Attributes
    ----------
    table : pandas.DataFrame
        The input's columns with predicted_age_years and brain_age_gap_years, one row a scan
        that could be used; `PREDICTION_COLUMNS` and `ADDED_COLUMNS` come first. Intervals are NaN
        where the bundle has no calibration or too few people in it for the level, percentiles
        where it does not know its training scans. `verdict` is ok or flagged; `reasons` says why,
        what was settled in reading a scan, and which other scan holds the same voxels.
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
    """Table of scans given by path, named as `name_files` does.

    A path given twice is predicted once; its second mention is a failed entry.
    """
    names = list(dict.fromkeys(paths))
    seen: set[str] = set()
    repeated: list[LedgerEntry] = []
    for path in paths:
        if path not in seen:
            seen.add(path)
            continue
        repeat_id = f"{path}#{len(repeated) + 2}"
        repeated.append(LedgerEntry(repeat_id, "input", "failed", "the path was given twice."))
    return list_files(names), repeated


def mark_model(bundle: "Bundle") -> str:
    """Name what decides ages: weights, how scans are prepared, and a site's offset."""
    calibration = bundle.calibration
    return mark(bundle.weights_sha256, calibration.offset_years_ if calibration else 0.0)


def mark(weights_sha256: str, offset_years: float, preparation: int = CODE_VERSION) -> str:
    """Put into words what decides ages.

    Examples
    --------
    >>> mark("6dea107f3d4e55", 2.5, 9)
    'weights 6dea107f3d4e, preparation 9, -2.5000 years'
    """
    shifted = f", {-offset_years:+.4f} years" if offset_years else ""
    return f"weights {weights_sha256[:12]}, preparation {preparation}{shifted}"


def mark_table(table: pd.DataFrame, bundle: "Bundle", level: float) -> pd.DataFrame:
    """Add to predictions by which model they are, and the level of their intervals."""
    return table.assign(predicted_by=mark_model(bundle), interval_level=level)


def predict_scans(
    bundle: "Bundle",
    scans: pd.DataFrame,
    cache_dir: Path,
    *,
    level: float = DEFAULT_LEVEL,
    how: Preparation = HERE,
    on_progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Prepare and predict scans; a scan that cannot be used is an entry, not an error.

    Parameters
    ----------
    scans : pandas.DataFrame
        `scan_id`, `path`, `age_years` (NaN where unknown) and any other columns.
    cache_dir : pathlib.Path
        Folder of prepared arrays.
    level : float
        Share of ages that the intervals shall hold.
    how : Preparation
        Its masks belong to the rows of `scans`.
    on_progress : callable, optional
        Called with (scans done, scans in all).

    Raises
    ------
    BundleError
        If the model was trained on images: it knows no ages.
    """
    return predict_when_loaded(
        lambda: bundle,
        bundle.config,
        scans,
        cache_dir,
        level=level,
        how=how,
        on_progress=on_progress,
    )


def predict_when_loaded(
    load: Callable[[], "Bundle"],
    config: Config,
    scans: pd.DataFrame,
    cache_dir: Path,
    *,
    level: float = DEFAULT_LEVEL,
    how: Preparation = HERE,
    on_progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Predict as `predict_scans` does, and ask for the model when scans are prepared.

    Parameters
    ----------
    load : callable
        Returns the model, the same at each call.
    config : Config
        The model's settings.
    """
    check_ages(config)
    tables, entries, seen = [], [], dict[str, str]()
    for start in range(0, max(len(scans), 1), _CHUNK):  # bounded memory for cohorts of any size
        chunk = scans.iloc[start : start + _CHUNK]
        prepared = prepare_cohort(
            list(chunk["path"]),
            list(chunk["scan_id"]),
            config.preprocessing,
            cache_dir,
            how=replace(how, masks=how.masks[start : start + _CHUNK]),
            on_progress=_shifted(on_progress, start, len(scans)),
        )
        bundle = load()
        used = chunk.iloc[prepared.kept].copy()
        for position, content in zip(prepared.kept, hash_arrays(prepared.arrays), strict=True):
            row = chunk.iloc[position].to_dict()
            twin = seen.setdefault(content, row["scan_id"])
            copied = [f"{SAME_VOXELS} {twin}"] * (twin != row["scan_id"])
            _add_remarks(prepared.entries, position, (*remark_contradicted(row), *copied))
        judged = [prepared.entries[position] for position in prepared.kept]
        used["verdict"] = [entry.verdict for entry in judged]
        used["reasons"] = [entry.reason for entry in judged]
        tables.append(used.assign(**predict_columns(bundle, prepared.arrays, level)))
        entries.extend(prepared.entries)
    table = pd.concat(tables, ignore_index=True)
    table["brain_age_gap_years"] = table["predicted_age_years"] - table["age_years"]
    first = [*PREDICTION_COLUMNS, *ADDED_COLUMNS]
    return Predictions(table[[*first, *(name for name in table if name not in first)]], entries)


def _add_remarks(entries: list[LedgerEntry], position: int, remarks: Sequence[str]) -> None:
    """Add to a scan's entry what is no fault of its quality."""
    entry = entries[position]
    entries[position] = replace(entry, reason="; ".join(filter(None, (entry.reason, *remarks))))


def check_ages(config: Config) -> None:
    """Check that a model predicts ages.

    Raises
    ------
    BundleError
        If it was trained on images.
    """
    if config.images is not None:
        raise BundleError("--model", f"tells classes of {config.images.dataset}, not ages.")


def predict_columns(
    bundle: "Bundle", arrays: HalfArray, level: float = DEFAULT_LEVEL
) -> dict[str, DoubleArray]:
    """Predicted age, spread, interval and out-of-distribution percentile of prepared scans.

    No chronological age enters.

    Parameters
    ----------
    arrays : numpy.ndarray of float16 (N, I, J, K)

    Returns
    -------
    dict of numpy.ndarray of float64 (N,)
        `predicted_age_years` and `NUMBER_COLUMNS`.
    """
    result = bundle.predict(arrays)
    return number_columns(
        result.predicted_age_years,
        result.spread_years,
        None if bundle.ood is None else bundle.ood.percentile(arrays),
        bundle.intervals,
        level,
    )


def _shifted(
    on_progress: Callable[[int, int], None] | None, start: int, total: int
) -> Callable[[int, int], None] | None:
    if on_progress is None:
        return None
    return lambda done, _: on_progress(start + done, total)
