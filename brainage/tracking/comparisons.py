"""Comparisons that `brainage compare` logged, read back with the tables that it wrote."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainage.errors import TrackingError
from brainage.tracking.backend import Archive, FoundRun
from brainage.tracking.registry import existing_uri
from brainage.tracking.tracker import EXPERIMENT
from brainage.tracking.uri import shown_uri

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("summary.csv", "comparison.csv", "curves.csv")
FOLDER = "tables"
RUN_NAMES = "compare %"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Tables of one comparison.

    Attributes
    ----------
    summary : pandas.DataFrame
        One row a method, as `brainage.evaluation.comparison.summarise_comparison` made it.
    runs : pandas.DataFrame
        One row a run: method, seed, fold, error, seconds, memory.
    curves : pandas.DataFrame
        method, seed, fold, epoch, val_mae_years.
    """

    summary: "pd.DataFrame"
    runs: "pd.DataFrame"
    curves: "pd.DataFrame"


def list_comparisons(tracking_uri: str | None = None) -> list[FoundRun]:
    """Comparisons in the tracker, the newest first.

    Raises
    ------
    TrackingError
        If there is no tracker, or it cannot be reached.
    """
    uri = existing_uri(tracking_uri)
    try:
        return Archive(uri).find(EXPERIMENT, RUN_NAMES)
    except Exception as error:  # MLflow passes on what its database and HTTP libraries raise
        raise _unreachable(uri, error) from error


def load_comparison(run_id: str, tracking_uri: str | None = None) -> Comparison:
    """Tables of a comparison.

    Raises
    ------
    TrackingError
        If the tracker cannot be reached, or the run has no tables: it is unfinished, or of a
        version that did not store them.
    """
    import pandas as pd

    uri = existing_uri(tracking_uri)
    try:
        with tempfile.TemporaryDirectory() as private:
            folder = Archive(uri).download(run_id, FOLDER, Path(private))
            tables = [pd.read_csv(folder / name) for name in TABLES]
    except OSError as error:
        raise TrackingError(run_id, "has no tables: the comparison did not end.") from error
    except Exception as error:
        raise _unreachable(uri, error) from error
    return Comparison(*tables)


def _unreachable(uri: str, error: Exception) -> TrackingError:
    problem = f"could not be read ({type(error).__name__})."
    return TrackingError(shown_uri(uri), problem, "Does the server run?")
