"""`brainage volumes`: grey matter, white matter, fluid and ventricles of many scans."""

from pathlib import Path

import numpy as np
import pandas as pd

from brainage.config import PreprocessingConfig
from brainage.errors import CohortError, StoreError
from brainage.evaluation.volume_curves import STRUCTURES
from brainage.report.volumes import TASK
from brainage.sandbox.engines import Engine, run_tasks
from brainage.types import Json
from brainage.workflows.cohorts import CohortOptions, read_options
from brainage.workflows.console import say, scan_progress, tell_entries, warn
from brainage.workflows.results import write_table


def volumes(options: CohortOptions, output: Path, jobs: int = 1) -> pd.DataFrame:
    """Measure a cohort's scans, as the report does, and write volumes.csv.

    Returns
    -------
    pandas.DataFrame
        A row a scan: the cohort's own columns, so that the table is itself a cohort, then `verdict`
        and `reasons` of the quality gate, `grey_ml`, `white_ml`, `fluid_ml` and, of the fluid,
        `ventricles_ml` in the scan's own space; a scan that failed has none.

    Raises
    ------
    CohortError
        If no scan can be measured.
    StoreError
        If the cache cannot be written.
    """
    reading = read_options(options, require_age=False)
    tell_entries(reading.rejected)
    table = reading.cohort.table
    common = {
        "settings": PreprocessingConfig().model_dump(mode="json"),
        "cache": str(options.cache_dir.absolute()),
    }
    arguments: list[Json] = [
        {"path": str(Path(path).absolute()), "scan_id": scan_id, **common}
        for path, scan_id in zip(table["path"], table["scan_id"], strict=True)
    ]
    found: dict[int, Json] = {}
    with scan_progress("measuring volumes") as progress:
        for position, outcome in run_tasks(TASK, arguments, Engine("processes", jobs)):
            answer = outcome.result or {"verdict": "failed", "reason": f"{outcome.problem}."}
            if "fault" in answer:
                raise StoreError(*answer["fault"])
            if answer["verdict"] != "ok":
                warn(f"{arguments[position]['scan_id']}: {answer['verdict']}: {answer['reason']}")
            found[position] = answer
            progress(len(found), len(arguments))
    answers = [found[position] for position in range(len(arguments))]
    measured = table.reset_index(drop=True)
    measured["path"] = [argument["path"] for argument in arguments]
    measured["verdict"] = [answer["verdict"] for answer in answers]
    measured["reasons"] = [answer["reason"] for answer in answers]
    for name in STRUCTURES:
        values = [answer.get("volumes_ml", {}).get(name, np.nan) for answer in answers]
        measured[f"{name}_ml"] = np.round(values, 1)
    n_measured = int(measured["grey_ml"].notna().sum())
    if not n_measured:
        raise CohortError(options.source, "no scan can be measured.", "See the reasons above.")
    write_table(measured, output / "volumes.csv")
    say(f"{n_measured} of {len(measured)} scans measured; written to {output / 'volumes.csv'}")
    return measured
