"""Volumes of a cohort: a table that is itself a cohort, and says what could not be measured."""

from pathlib import Path

import pandas as pd
import pytest

from brainage.cohorts.phantom import write_phantom_cohort
from brainage.errors import CohortError
from brainage.sandbox.parent import Outcome
from brainage.workflows import volumes as job
from brainage.workflows.cohorts import CohortOptions, read_options
from brainage.workflows.release import _fit_volumes
from tests.people import people

FOUND = {"grey": 650.04, "white": 450.0, "fluid": 300.0, "ventricles": 30.0}
ANSWERS = (
    Outcome({"verdict": "ok", "reason": "", "volumes_ml": FOUND}, "", 1.0),
    Outcome({"verdict": "failed", "reason": "no brain is found"}, "", 1.0),
    Outcome(None, "took more memory than 4 GiB", 1.0),
)


def options(folder: Path, scans: int = 3) -> CohortOptions:
    for n in range(scans):
        (folder / f"{n}.nii.gz").write_bytes(bytes([n]))
    known = {"subject_id": [f"p{n}" for n in range(scans)], "age": 50, "sex": "F", "MMSE": 29}
    table = pd.DataFrame(known | {"path": [f"{n}.nii.gz" for n in range(scans)]})
    table.to_csv(folder / "cohort.csv", index=False)
    return CohortOptions(str(folder / "cohort.csv"), cache=folder / "cache", skip_bad=True)


def answer(monkeypatch: pytest.MonkeyPatch, outcomes: tuple[Outcome, ...]) -> list[str]:
    """Let scans have these outcomes, the last first; returns what is warned of."""
    told: list[str] = []
    monkeypatch.setattr(job, "run_tasks", lambda *_: reversed(list(enumerate(outcomes))))
    monkeypatch.setattr(job, "warn", told.append)
    return told


def test_what_cannot_be_measured_is_kept_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = answer(monkeypatch, ANSWERS)
    job.volumes(options(tmp_path), tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "volumes.csv")
    assert found["verdict"].tolist() == ["ok", "failed", "failed"]
    assert found["grey_ml"].notna().tolist() == [True, False, False]
    assert found["grey_ml"][0] == 650.0 and "more memory" in found["reasons"][2]
    assert len(told) == 2 and "p1" in told[1] and "no brain" in told[1]


def test_the_table_is_itself_a_cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, ANSWERS)
    job.volumes(options(tmp_path), tmp_path / "out")
    table = read_options(CohortOptions(str(tmp_path / "out" / "volumes.csv"))).cohort.table
    assert table["ventricles_ml"].tolist()[0] == 30.0 and table["MMSE"].tolist() == [29] * 3


def test_a_cohort_that_cannot_be_measured_at_all_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, ANSWERS[1:])
    with pytest.raises(CohortError, match="no scan can be measured"):
        job.volumes(options(tmp_path, scans=2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_phantoms_are_measured(tmp_path: Path) -> None:
    cohort = write_phantom_cohort(tmp_path / "phantoms", 1, 0)
    found = job.volumes(CohortOptions(str(cohort), cache=tmp_path / "cache"), tmp_path / "out")
    assert 200 < found["grey_ml"][0] < 1000


def test_curves_of_a_person_in_two_tables_are_refused(tmp_path: Path) -> None:
    """Subject 1 of two cohorts is two people, of whom one would be dropped."""
    for name in ("a", "b"):
        people(30).assign(subject_id=range(30), verdict="ok").to_csv(tmp_path / name, index=False)
    with pytest.raises(CohortError, match="30 subject_ids are in two cohorts"):
        _fit_volumes([tmp_path / "a", tmp_path / "b"])
