"""Measure how far a model's predicted ages move when scans are changed."""

import contextlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from brainage import __version__
from brainage.errors import BrainageError, ConfigError, StoreError, VolumeError
from brainage.evaluation.out_of_fold import records
from brainage.evaluation.robustness import (
    describe_training_share,
    robustness_markdown,
    summarise_robustness,
)
from brainage.files import hold_folder, sha256_bytes
from brainage.inference.model import Model
from brainage.inference.predict import check_ages
from brainage.model.bundle import Bundle
from brainage.plotting.science import plot_robustness
from brainage.prepared.arrays import PreparedScan, load_scan
from brainage.prepared.perturbed import TASK, describe_change
from brainage.prepared.source import ScanSource, hash_source
from brainage.prepared.store import PreparedStore, entry_key
from brainage.preprocessing.perturbations import (
    BRAIN,
    BY_NAME,
    HEAD,
    PERTURBATIONS,
    UNCHANGED,
    Perturbation,
    select_perturbations,
)
from brainage.sandbox.engines import Engine, run_tasks
from brainage.sandbox.parent import Limits, Outcome
from brainage.types import Json
from brainage.workflows.cohorts import CohortInput, as_options, read_options
from brainage.workflows.console import say, scan_progress, tell_entries, warn
from brainage.workflows.models import load_model
from brainage.workflows.results import write_json, write_table
from brainage.workflows.seen import rows_in_training

ROWS = "robustness.csv"
# Of a whole head, roughly; once scans are measured, their own seconds are taken.
USUAL_SECONDS = 10.0
# Columns that tell rows apart: several cohorts may be collected in one folder.
KEY = ("scan_id", "scan_hash", "perturbation")


def robustness(
    cohort: CohortInput,
    output: str | Path,
    model: str | Path | Model | None = None,
    *,
    only: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
    jobs: int = 1,
) -> pd.DataFrame:
    """Measure how far predicted ages move when scans are turned, resampled, stripped and the like.

    Writes ``robustness.csv`` (a row for every scan and perturbation, and whether the scan's person
    trained the model: others' ages move more), ``summary.csv``, ``summary.json`` and a picture.
    Rows that an interrupted run left are not computed again; other scans and perturbations may be
    added to them. Masks beside scans are not used.

    Parameters
    ----------
    cohort : path, Cohort or CohortReading
        As in `brainage.train`; ages are not needed.
    output : path
        Folder to write: new, empty, or an earlier output for the same model and seed.
    model : path or Model, optional
        As `brainage.load_model` takes it.
    only : sequence of str
        Perturbations or their groups, of `brainage.preprocessing.perturbations`; absent: all.
    sample : int, optional
        Draw so many scans; absent: all. A larger sample of the same seed holds the smaller one.
    seed : int
        Seed of the sample, of noise and of bias fields.
    jobs : int
        Scans prepared at a time, each in a process.

    Returns
    -------
    pandas.DataFrame
        One row a perturbation and kind of scan: `n`, `median_years`, `p95_years` and
        `largest_years` of the absolute change, and what the quality gate said; see
        `brainage.evaluation.robustness.summarise_robustness`.

    Raises
    ------
    ConfigError
        If a perturbation is unknown, or the output is another model's.
    BrainageError
        If no scan can be used.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import brainage
    >>> from brainage.cohorts.phantom import write_phantom_cohort
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = Path(folder.name)
    >>> cohort = write_phantom_cohort(root / "phantoms", subjects=1, seed=0)
    >>> summary = brainage.robustness(cohort, root / "robustness", only=["stored_las"])
    >>> summary[["perturbation", "n"]].values.tolist()
    [['stored_las', 1]]
    >>> folder.cleanup()
    """
    changes, folder, options = select_perturbations(only), Path(output), as_options(cohort)
    bundle = load_model(model).bundle
    check_ages(bundle.config)
    reading = read_options(replace(options, skip_bad=True), require_age=False)
    tell_entries(reading.rejected)
    table = reading.cohort.table
    drawn = np.sort(np.random.default_rng(seed).permutation(len(table))[:sample])
    table = table.iloc[drawn].assign(in_training=rows_in_training(bundle, table)[drawn])
    scans = [
        _Scan(row["path"], row["scan_id"], bool(row["in_training"]))
        for row in table.to_dict("records")
    ]
    with hold_folder(folder):
        job = _Job(bundle, folder, options.cache_dir, seed, jobs)
        job.take_up()
        job.run(scans, changes)
        return _write(job, synthetic=reading.cohort.synthetic)


@dataclass(frozen=True)
class _Scan:
    path: str
    scan_id: str
    in_training: bool

    @cached_property
    def hash(self) -> str:
        """Hash of the scan's bytes; empty where it cannot be read."""
        with contextlib.suppress(VolumeError):
            return hash_source(ScanSource(self.path, self.scan_id))[:16]
        return ""


Task = tuple[_Scan, Perturbation]


@dataclass(frozen=True)
class _Job:
    bundle: Bundle
    folder: Path
    cache: Path
    seed: int
    jobs: int
    rows: dict[tuple[str, ...], Json] = field(default_factory=dict)

    @cached_property
    def settings_hash(self) -> str:
        """Hash of all that decides a row beside scan and perturbation."""
        decides = {
            "weights": self.bundle.weights_sha256,
            "calibration": self.bundle.facts.get("calibration"),
            "inference": self.bundle.config.inference.model_dump(mode="json"),
            "preparation": entry_key("array", "", self.bundle.config.preprocessing),
            "brainage": __version__,
            "seed": self.seed,
        }
        return sha256_bytes(json.dumps(decides, sort_keys=True).encode())[:16]

    def take_up(self) -> None:
        """Take up the rows of an earlier run.

        Raises
        ------
        ConfigError
            If they are another model's, seed's or version's.
        """
        path = self.folder / ROWS
        if not path.exists():
            return
        try:
            texts = dict.fromkeys((*KEY, "input", "reason", "settings_hash"), str)
            blank = dict.fromkeys(("predicted_age_years", "change_years"), "")
            table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=blank)
            if (table["settings_hash"] != self.settings_hash).any():
                raise ValueError("of another model, seed or version of the software")
            self.rows.update((tuple(row[name] for name in KEY), row) for row in records(table))
        except (OSError, ValueError, KeyError) as error:
            problem = f"holds rows that cannot be taken up ({error})."
            raise ConfigError(str(path), problem, "Choose another --output.") from error

    def run(self, scans: Sequence[_Scan], changes: Sequence[Perturbation]) -> None:
        """Predict scans as they are, then under the perturbations that are for them."""
        most = len(scans) * (1 + len(changes)) * USUAL_SECONDS / self.jobs / 60
        say(
            f"{len(scans)} scans, each as it is and under at most {len(changes)} perturbations: "
            f"{most:.0f} minutes or less where one takes {USUAL_SECONDS:g} s; "
            f"{len(self.rows)} predictions are there already."
        )
        self._measure([(scan, PERTURBATIONS[0]) for scan in scans], "scans as they are")
        tasks: list[Task] = []
        for scan in scans:
            row = self._unchanged(scan)
            if row["verdict"] == "failed":
                warn(f"{scan.scan_id}: {row['reason']}")
            else:
                tasks += [(scan, item) for item in changes if item.only in (None, row["input"])]
        if not tasks:
            problem = "no scan can be used, or the perturbations are for other kinds of scans."
            raise BrainageError("robustness", problem, f"See {self.folder / ROWS}.")
        seconds, left = [row["seconds"] for row in self.rows.values()], len(self._missing(tasks))
        minutes = left * float(np.median(seconds)) / self.jobs / 60
        say(f"{left} predictions of changed scans to come: about {minutes:.0f} minutes.")
        self._measure(tasks, "changed scans")

    def _unchanged(self, scan: _Scan) -> Json:
        return self.rows.get((scan.scan_id, scan.hash, UNCHANGED), {})

    def _missing(self, tasks: Sequence[Task]) -> list[Task]:
        return [
            (scan, change)
            for scan, change in tasks
            if (scan.scan_id, scan.hash, change.name) not in self.rows
        ]

    def _measure(self, tasks: Sequence[Task], title: str) -> None:
        missing = self._missing(tasks)
        done = len(tasks) - len(missing)
        with scan_progress(title) as progress:
            for threads in sorted({change.threads for _, change in missing}):
                part = [task for task in missing if task[1].threads == threads]
                engine = Engine("processes", self.jobs, limits=Limits(threads=threads))
                arguments = [self._describe(*task) for task in part]
                for position, outcome in run_tasks(TASK, arguments, engine):
                    row = self._build_row(*part[position], outcome)
                    self.rows[tuple(row[name] for name in KEY)] = row
                    write_table(pd.DataFrame(self.rows.values()), self.folder / ROWS)
                    done += 1
                    progress(done, len(tasks))

    def _describe(self, scan: _Scan, change: Perturbation) -> Json:
        seed = [self.seed, zlib.crc32(f"{scan.scan_id}/{change.name}".encode())]
        settings = self.bundle.config.preprocessing
        return describe_change(scan.path, scan.scan_id, change.name, seed, settings, self.cache)

    def _build_row(self, scan: _Scan, change: Perturbation, outcome: Outcome) -> Json:
        answer = outcome.result or {"reason": f"{outcome.problem}."}
        if "fault" in answer:
            raise StoreError(*answer["fault"])
        found, known, age = None, self._unchanged(scan), np.nan
        if "key" in answer:
            settings = self.bundle.config.preprocessing
            found = load_scan(PreparedStore(self.cache), answer["key"], settings)
        if found is not None:
            age = float(self.bundle.predict(found.array[None]).predicted_age_years[0])
        return {
            "scan_id": scan.scan_id,
            "scan_hash": scan.hash,
            "perturbation": change.name,
            "in_training": scan.in_training,
            "group": change.group,
            "input": known.get("input", _input(found)),
            "predicted_age_years": age,
            "change_years": age - known.get("predicted_age_years", age),
            "verdict": "failed" if found is None else found.verdict,
            "reason": _reason(found, answer),
            "seconds": round(outcome.seconds, 2),
            "settings_hash": self.settings_hash,
        }


def _input(found: PreparedScan | None) -> str:
    if found is None:
        return ""
    return HEAD if found.recognised == "raw head" else BRAIN


def _reason(found: PreparedScan | None, answer: Json) -> str:
    if found is None:
        return str(answer.get("reason", "vanished from the cache."))
    return "; ".join(filter(None, [*found.reasons, found.note]))


def _write(job: _Job, *, synthetic: bool) -> pd.DataFrame:
    """Write summary and picture of all rows, and say the table."""
    order = {name: number for number, name in enumerate(BY_NAME)}
    table = pd.DataFrame(job.rows.values())
    changed = table[table["perturbation"] != UNCHANGED]
    changed = changed.sort_values("perturbation", key=lambda names: names.map(order), kind="stable")
    summary = summarise_robustness(changed, ("group", "perturbation", "input"))
    groups = summarise_robustness(changed, ("group", "input"))
    write_table(summary, job.folder / "summary.csv")
    scans = table.drop_duplicates(["scan_id", "scan_hash"])["in_training"].astype(bool)
    n_scans, n_in_training = len(scans), int(scans.sum())
    facts = {
        "weights_sha256": job.bundle.weights_sha256,
        "n_scans": n_scans,
        "n_in_training": n_in_training,
        "groups": records(groups),
    }
    write_json(facts, job.folder / "summary.json")
    plot_robustness(changed, job.folder / "robustness.png", synthetic=synthetic)
    say(robustness_markdown(summary, "perturbation"))
    say(describe_training_share(n_in_training, n_scans))
    say(f"written to {job.folder}")
    return summary
