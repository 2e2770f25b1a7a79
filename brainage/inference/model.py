"""A trained model that takes scans and returns ages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import pandas as pd

from brainage.cohorts.cohort import Cohort, CohortReading
from brainage.config import Config, with_changes
from brainage.errors import ConfigError, PreparationError, VolumeError
from brainage.evaluation.bounds import DEFAULT_LEVEL
from brainage.files import default_cache
from brainage.inference.predict import Predictions, predict_scans, scans_table
from brainage.prepared.arrays import HERE, Preparation
from brainage.types import Verdict

if TYPE_CHECKING:
    from brainage.model.bundle import Bundle

ScanPath = str | Path
_kept: dict[str, "Model"] = {}
_JUDGED = ("verdict", "reasons")


@dataclass(frozen=True)
class Prediction:
    """What a model says of one scan.

    Attributes
    ----------
    age_years : float
        Predicted age in years.
    interval_years : tuple of float (2,), optional
        Prediction interval, low and high, in years; None where the model has no calibration, or
        too few people in it for the level.
    verdict : {"ok", "flagged"}
        Of the quality gate. A scan that fails it has no prediction.
    reasons : tuple of str
        Why the scan was flagged.
    ood : float, optional
        Share, in percent, of held-out training scans that are less unusual than this scan; None
        where the model does not know its training scans.
    spread_years : float
        Standard deviation of the predicted distribution of ages, in years.
    """

    age_years: float
    interval_years: tuple[float, float] | None
    verdict: Verdict
    reasons: tuple[str, ...]
    ood: float | None
    spread_years: float


@dataclass(frozen=True, eq=False)
class Model:
    """A model ready to predict: what `brainage.load_model` returns.

    Attributes
    ----------
    bundle : Bundle
        Networks, settings and facts.
    name : str
        Folder that it was loaded from, or its name in a model registry.
    version : str
        Version in a model registry; empty for a folder.

    Examples
    --------
    >>> import brainage
    >>> model = brainage.load_model()
    >>> model.bundle.facts["method"]
    'lfnn_l'
    """

    bundle: "Bundle"
    name: str = ""
    version: str = ""

    def with_series(self, series: str | None) -> "Model":
        """Return the model for another series of DICOM scans, by number or description text."""
        config = with_series(self.bundle.config, series)
        return replace(self, bundle=replace(self.bundle, config=config))

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self, scans: ScanPath, *, level: float = DEFAULT_LEVEL, cache: Path | None = None
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        scans: Sequence[ScanPath] | Cohort | CohortReading,
        *,
        level: float = DEFAULT_LEVEL,
        cache: Path | None = None,
    ) -> pd.DataFrame: ...

    def predict(
        self,
        scans: ScanPath | Sequence[ScanPath] | Cohort | CohortReading,
        *,
        level: float = DEFAULT_LEVEL,
        cache: Path | None = None,
    ) -> Prediction | pd.DataFrame:
        """Predict the age of one scan, of several, or of a cohort.

        Parameters
        ----------
        scans : path, sequence of paths, Cohort or CohortReading
            T1 scans: NIfTI or MGZ files, DICOM folders or zips.
        level : float
            Share of ages that the intervals shall hold.
        cache : pathlib.Path, optional
            Folder of prepared scans; absent: the user's cache folder.

        Returns
        -------
        Prediction or pandas.DataFrame
            Of one path a `Prediction`. Of several a table with one row for every scan, in the
            order given: `scan_id`, `age_years`, `predicted_age_years`, `brain_age_gap_years`,
            `interval_low_years`, `interval_high_years`, `spread_years`, `ood_percentile`, then
            `verdict` (ok, flagged, failed) and `reasons` of the quality gate, then the cohort's
            other columns. A scan that cannot be used has NaN and says why.

        Raises
        ------
        VolumeError, PreparationError
            If the one scan cannot be read, or fails the quality gate.
        """
        if isinstance(scans, str | Path):
            return self._predict_one(str(scans), level, cache)
        if isinstance(scans, CohortReading):
            scans = scans.cohort
        if isinstance(scans, Cohort):
            return _join(scans.table, self.predict_table(scans.table, level=level, cache=cache))
        paths = [str(path) for path in scans]
        table, _ = scans_table(list(dict.fromkeys(paths)))
        joined = _join(table, self.predict_table(table, level=level, cache=cache))
        return joined.set_index("path", drop=False).loc[paths].reset_index(drop=True)

    def predict_table(
        self,
        scans: pd.DataFrame,
        *,
        level: float = DEFAULT_LEVEL,
        cache: Path | None = None,
        how: Preparation = HERE,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Predictions:
        """Predict the rows of a table; see `brainage.inference.predict.predict_scans`."""
        check_level(level)
        cache = default_cache() if cache is None else Path(cache)
        return predict_scans(
            self.bundle, scans, cache, level=level, how=how, on_progress=on_progress
        )

    def _predict_one(self, path: str, level: float, cache: Path | None) -> Prediction:
        table, _ = scans_table([path])
        result = self.predict_table(table, level=level, cache=cache)
        entry = result.entries[0]
        if entry.verdict == "failed":
            kind = VolumeError if entry.stage == "read" else PreparationError
            raise kind(path, entry.reason)
        row = result.table.iloc[0]
        low, high = row["interval_low_years"], row["interval_high_years"]
        ood = row["ood_percentile"]
        return Prediction(
            age_years=float(row["predicted_age_years"]),
            interval_years=None if pd.isna(low) else (float(low), float(high)),
            verdict=entry.gate,
            reasons=tuple(part for part in entry.reason.split("; ") if part),
            ood=None if pd.isna(ood) else float(ood),
            spread_years=float(row["spread_years"]),
        )


def load_once(folder: Path) -> Model:
    """Load a model folder, or return what it was loaded as before; the last one alone is kept.

    Raises
    ------
    BundleError
        If it is no model.
    """
    from brainage.model.bundle import load_bundle
    from brainage.model.manifest import read_manifest

    key = f"{folder.resolve()} {read_manifest(folder)}"
    if key not in _kept:
        _kept.clear()
        _kept[key] = Model(load_bundle(folder))
    return _kept[key]


def with_series(config: Config, series: str | None) -> Config:
    """Return the settings for another series of DICOM scans; the same if none is named."""
    return with_changes(config, {"preprocessing.series": series}) if series else config


def check_level(level: float) -> None:
    """Check that a level is a share.

    Raises
    ------
    ConfigError
        If it is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise ConfigError("--level", f"expected a level between 0 and 1, got {level:g}.")


def _join(scans: pd.DataFrame, result: Predictions) -> pd.DataFrame:
    """Put predictions and ledger beside every scan, whether it could be used or not."""
    entries = pd.DataFrame(
        [(entry.scan_id, entry.verdict, entry.reason) for entry in result.entries],
        columns=["scan_id", *_JUDGED],
    )
    # A cohort that `prepare` wrote has verdicts already; these say the same and why.
    scans = scans.drop(columns=[*_JUDGED], errors="ignore")
    known = [name for name in scans if name not in ("scan_id", "age_years")]
    predicted = result.table.drop(columns=[*known, *_JUDGED, "age_years"])
    table = scans.merge(predicted, on="scan_id", how="left").merge(entries, on="scan_id")
    first = ["scan_id", "age_years", *(name for name in predicted if name != "scan_id")]
    table["brain_age_gap_years"] = table["predicted_age_years"] - table["age_years"]
    assert len(table) == len(scans) and not np.any(table["scan_id"].duplicated())
    return table[[*first, *_JUDGED, *known]]
