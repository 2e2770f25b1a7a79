"""Healthy tables of every kind, and the commands that read them; pictures are not drawn."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np

from brainage.cohorts.cohort import read_cohort
from brainage.cohorts.filters import select_rows
from brainage.cohorts.public import read_ixi_table, read_oasis_table
from brainage.config import load_config, preset_names
from brainage.config.loading import config_folder
from brainage.preprocessing.ledger import read_ledger
from brainage.tracking import PENDING_FILE, pending
from brainage.tracking.backend import Backend
from brainage.workflows import evaluate, groups, longitudinal, report
from pipelines.speed.plan import load_plan
from pipelines.study.plan import build_cases, load_study
from tools.fuzz.target import Target, read_all

TEXTS = (
    "id,age,sex,path\na,30,F,a.nii\nb,41.5,M,b.nii\n",
    "participant_id\tage\tsite\tpath\nsub-1\t89+\tA\tx.nii.gz\nsub-2\tn/a\tB\ty.nii.gz\n",
    'ID;Alter;Datei\n"a;1";30,5;"a ""b"".nii"\nb;31;b.nii\n',
)


def _workbook(rows: list[list[object]]) -> bytes:
    import xlwt

    book = xlwt.Workbook()
    sheet = book.add_sheet("Table")
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            sheet.write(number, column, cell)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def table_seeds() -> list[dict[str, bytes]]:
    """Cohort tables as people write them, and a spreadsheet."""
    encoded = [TEXTS[0].encode("utf-16"), TEXTS[1].encode("utf-8-sig"), "ü,path".encode("latin-1")]
    contents = [text.encode() for text in TEXTS] + encoded + [_workbook([["id"], ["a"]])]
    return [{"cohort.csv": content} for content in contents]


def read_table_file(folder: Path) -> object:
    """Read the table and keep rows by a condition."""
    return read_cohort(folder / "cohort.csv", where="age == age and age < 50", skip_bad=True)


def bids_seeds() -> list[dict[str, bytes]]:
    """A BIDS folder with sessions, runs, a participant without scan and a derivative."""
    people = "participant_id\tage\tsex\tsite\nsub-1\t30\tF\tA\nsub-2\t41\tM\tB\nsub-3\tn/a\t\t\n"
    sessions = "session_id\tage\nses-a\t31.5\nses-b\t33\n"
    images = (
        "sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz",
        "sub-1/ses-b/anat/sub-1_ses-b_run-2_T1w.nii.gz",
        "sub-2/anat/sub-2_run-1_T1w.nii",
        "sub-2/anat/sub-2_run-02_T1w.nii",
        "sub-2/anat/sub-2_run-1_T1w.json",
    )
    files = {"participants.tsv": people.encode(), "sub-1/sub-1_sessions.tsv": sessions.encode()}
    return [files | dict.fromkeys(images, b"{}")]


def read_bids_folder(folder: Path) -> object:
    """Read the folder and keep rows by a condition."""
    return read_cohort(folder, where="age == age", skip_bad=True)


def filter_seeds() -> list[dict[str, bytes]]:
    """Row filters."""
    texts = ("CDR != CDR or CDR == 0", "age > 60 & (sex == 'F') | ~(age < 3)", "age in [1, 2.5]")
    return [{"filter.txt": text.encode()} for text in texts]


def read_filter(folder: Path) -> object:
    """Apply the filter to a small table."""
    import pandas as pd

    columns = {"age": [50.0, np.nan], "sex": ["F", ""], "CDR": [0.0, np.nan], "site a": ["x", "y"]}
    text = (folder / "filter.txt").read_bytes().decode("utf-8", "surrogateescape")
    return select_rows(pd.DataFrame(columns), text)


def ixi_seeds() -> list[dict[str, bytes]]:
    """The spreadsheet of IXI."""
    header: list[object] = ["IXI_ID", "SEX_ID (1=m, 2=f)", "AGE"]
    rows: list[list[object]] = [header, [2, 2, 35.8], [12, 1, 38.5], [12, 1, ""]]
    return [{"IXI.xls": _workbook(rows)}]


def oasis_seeds() -> list[dict[str, bytes]]:
    """The table of OASIS-1."""
    text = "ID,M/F,Age,CDR,MMSE\nOAS1_0001_MR1,F,74,0,29\nOAS1_0002_MR2,M,55,,\n"
    return [{"oasis.csv": text.encode()}]


def prediction_seeds() -> list[dict[str, bytes]]:
    """Prediction tables of 14 people, two scans each, with intervals and without."""
    rng = np.random.default_rng(0)
    long = ["scan_id,subject_id,age_years,predicted_age_years,sex,site,CDR,fold"]
    long[0] += ",interval_low_years,interval_high_years"
    short = ["scan_id,age_years,predicted_age_years,CDR"]
    for number in range(28):
        age, person = 20 + 2 * (number // 2) + 0.1 * (number % 2), f"s{number // 2}"
        gap, case = rng.normal(0, 4), number // 2 % 3 // 2
        cells = f"{age},{age + gap:.2f}"
        more = f"{'FM'[number % 4 // 2]},A,{case},{number % 5},{age - 9},{age + 9}"
        long.append(f"x{number},{person},{cells},{more}")
        short.append(f"x{number},{cells},{case}")
    return [{"predictions.csv": "\n".join(lines).encode() + b"\n"} for lines in (long, short)]


@contextlib.contextmanager
def _without_pictures() -> Iterator[Path]:
    drawing = {
        groups: ("plot_groups", "plot_association", "plot_bland_altman", "say"),
        longitudinal: ("plot_change", "say", "warn"),
        evaluate: ("plot_coverage", "plot_predictions", "say", "warn"),
    }
    with contextlib.ExitStack() as stack:
        for module, names in drawing.items():
            for name in names:
                stack.enter_context(mock.patch.object(module, name))
        stack.enter_context(mock.patch("brainage.workflows.tables.warn"))
        yield Path(stack.enter_context(TemporaryDirectory()))


def read_predictions_file(folder: Path) -> None:
    """The commands on people, and `evaluate`, on a prediction table."""
    path = folder / "predictions.csv"
    correction = evaluate.BiasCorrection("cole", "CDR == 0")
    with _without_pictures() as output:
        read_all(
            lambda: groups.groups([path], "CDR > 0", output, None, []),
            lambda: groups.associations([path], ["CDR"], output, None, []),
            lambda: longitudinal.longitudinal([path], output, None),
            lambda: groups.reliability(path, output, None, [], 1.0),
            lambda: evaluate.evaluate(path, output, correction=correction),
        )


def ledger_seeds() -> list[dict[str, bytes]]:
    """Ledgers."""
    text = "scan_id,stage,verdict,reason,seconds\na,prepare,ok,,1.5\nb,prepare,failed,bad,0.1\n"
    return [{"ledger.csv": text.encode()}]


def read_ledger_file(folder: Path) -> None:
    """Read the ledger as `predict` and as `report` do."""
    read_all(
        lambda: report._ledger_entry(folder / "ledger.csv", "a"),
        lambda: read_ledger(folder / "ledger.csv"),
    )


def yaml_seeds() -> list[dict[str, bytes]]:
    """All presets of brain age."""
    folder = config_folder() / "brain_age"
    return [{"config.yaml": (folder / f"{name}.yaml").read_bytes()} for name in preset_names()]


def study_seeds() -> list[dict[str, bytes]]:
    """A study and a race."""
    return [
        {
            "study.yaml": (config_folder() / "study" / "s1.yaml").read_bytes(),
            "plan.yaml": sorted((config_folder() / "speed").glob("*.yaml"))[0].read_bytes(),
        }
    ]


def read_plans(folder: Path) -> None:
    """The plans of `brainage study` and `brainage speed`, up to the runs they ask for."""

    def cases() -> object:
        study = load_study("s1", folder / "study.yaml")
        return build_cases(study.model_copy(update={"seeds": study.seeds[:1]}), quick=True)

    read_all(
        cases,
        lambda: load_plan("", folder / "plan.yaml").shortened(),
    )


def event_seeds() -> list[dict[str, bytes]]:
    """What a run keeps for a tracker that did not answer."""
    start = {"event": "start", "run": "a", "name": "x", "tags": {}, "params": {"k": "1"}}
    metrics = {"event": "metrics", "run": "a", "metrics": {"mae": 4.0}, "step": 1}
    events = [start, metrics, {"event": "end", "run": "a", "status": "FINISHED"}]
    return [{PENDING_FILE: "".join(json.dumps(e) + "\n" for e in events).encode()}]


class _FailingBackend(Backend):
    """The tracker goes away after the first event."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.run_ids: dict[str, str] = {}
        self._client, self._experiment_id = mock.MagicMock(), "0"

    def apply(self, event: Any) -> list[str]:
        if self.run_ids:
            raise ConnectionError("is gone")
        self.run_ids[event["run"]] = "0"
        return []


def read_events(folder: Path) -> None:
    """Upload what was kept."""
    with (
        TemporaryDirectory() as private,
        mock.patch.object(pending, "Backend", _FailingBackend),
    ):
        content = (folder / PENDING_FILE).read_bytes()
        (Path(private) / PENDING_FILE).write_bytes(content)
        pending.upload_pending(Path(private), "http://127.0.0.1:9", on_warning=lambda _: None)


TABLES: dict[str, Target] = {
    "table": Target(table_seeds, read_table_file, guided="cohort.csv"),
    "bids": Target(bids_seeds, read_bids_folder, guided="participants.tsv"),
    "filter": Target(filter_seeds, read_filter, guided="filter.txt"),
    "ixi_xls": Target(ixi_seeds, lambda folder: read_ixi_table(folder / "IXI.xls")),
    "oasis_csv": Target(oasis_seeds, lambda folder: read_oasis_table(folder / "oasis.csv")),
    "predictions": Target(prediction_seeds, read_predictions_file),
    "ledger": Target(ledger_seeds, read_ledger_file, guided="ledger.csv"),
    "yaml": Target(
        yaml_seeds, lambda folder: load_config(folder / "config.yaml"), guided="config.yaml"
    ),
    "plans": Target(study_seeds, read_plans),
    "events": Target(event_seeds, read_events, guided=PENDING_FILE),
}
