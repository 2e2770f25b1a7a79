"""`brainage bids`: a BIDS App, one participant at a time, then the group.

Convention: Gorgolewski et al. 2017, doi:10.1371/journal.pcbi.1005209.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from brainage.cohorts.bids_files import write_dictionary
from brainage.errors import CohortError, PreparationError, VolumeError, suggest
from brainage.evaluation.bounds import DEFAULT_LEVEL
from brainage.evaluation.volume_curves import STRUCTURES
from brainage.files import atomic_write_text, remove_old
from brainage.inference.model import Model, check_level
from brainage.inference.predict import INTERVAL_LEVEL, PREDICTED_BY, mark
from brainage.plotting.figures import plot_predicted_vs_true
from brainage.prepared.derivatives import ScanRecord, ScanRequest, derive_scan
from brainage.prepared.store import PreparedStore
from brainage.report import ExamineOptions, build_report, examine_scan, write_report
from brainage.types import Json
from brainage.workflows.cohorts import CohortOptions, read_options
from brainage.workflows.console import say, scan_progress, tell_entries, warn
from brainage.workflows.models import load_model
from brainage.workflows.prepare import FIELD_MM, place_volumes
from brainage.workflows.prepare_layout import (
    COHORT,
    IMAGE_END,
    MASK_END,
    check_output,
    describe_dataset,
    name_scans,
    source_uri,
    write_people,
)
from brainage.workflows.results import write_table

REPORT_END = "_brainage"
GROUP = "group_brainage"
SPACING_MM = 2.0
_MIN_PLOTTED = 2
_NUMBERS = (
    *("age_years", "predicted_age_years", "interval_low_years", "interval_high_years"),
    *("brain_age_gap_years", "gap_percentile", "ood_percentile"),
)


@dataclass(frozen=True)
class BidsOptions:
    """Say whose scans are looked at, and how.

    Attributes
    ----------
    participants, sessions : sequence of str
        Labels, with or without ``sub-`` and ``ses-``; none: all.
    level : float
        Share of ages that the intervals shall hold.
    cache : pathlib.Path, optional
        Folder of prepared scans.
    """

    participants: Sequence[str] = ()
    sessions: Sequence[str] = ()
    level: float = DEFAULT_LEVEL
    cache: Path | None = None


def run_participants(
    bids_dir: Path, output: Path, model: str | Path | Model | None, options: BidsOptions
) -> int:
    """Prepare, predict and report on each scan; returns the number of scans that failed.

    Writes, below ``sub-LABEL``, the volume in MNI space with its mask and their provenance, and
    ``*_brainage.html``, ``.pdf`` and ``.json``. Several participants may be run at once into one
    folder: none writes a file of another's, and what they share is the same from each.

    Raises
    ------
    CohortError
        If the folder is no BIDS data set, or a label is not in it.
    """
    check_level(options.level)
    if output.exists():
        check_output(output)
    chosen = _choose(_read(bids_dir, options.cache), options)
    loaded = load_model(model)
    describe_dataset(output, str(bids_dir))
    failed = 0
    with scan_progress("examining") as progress:
        for done, row in enumerate(chosen.to_dict("records")):
            progress(done, len(chosen))
            about = {str(name): value for name, value in row.items()}
            verdict = _examine(about, bids_dir, output, loaded, options)
            failed += verdict == "failed"
            if verdict != "ok":
                warn(f"{Path(about['stem']).name}: {verdict}, see its report")
        progress(len(chosen), len(chosen))
    say(f"{len(chosen)} scans, {failed} failed; written to {output}")
    return failed


def run_group(output: Path) -> pd.DataFrame:
    """Write the table of all scans that the participants' level has examined, and a picture.

    Raises
    ------
    CohortError
        If there are none, or they were not all examined by one model at one level.
    """
    reports = sorted(output.glob(f"sub-*/**/anat/*{REPORT_END}.json"))
    if not reports:
        problem = f"holds no sub-*/[ses-*/]anat/*{REPORT_END}.json."
        raise CohortError(str(output), problem, "Run the level participant first.")
    numbers = {path: json.loads(path.read_text(encoding="utf-8")) for path in reports}
    _refuse_several_models(numbers, output)
    table = pd.DataFrame([_group_row(path, output, numbers[path]) for path in reports])
    text = table.replace("", "n/a").to_csv(sep="\t", index=False, na_rep="n/a")
    atomic_write_text(output / f"{GROUP}.tsv", text)
    write_dictionary(output / f"{GROUP}.json", table, "Predicted ages of all scans.")
    _write_cohort(table, output)
    known = table.dropna(subset=["age_years", "predicted_age_years"])
    if len(known) >= _MIN_PLOTTED:
        plot_predicted_vs_true(known, output / f"{GROUP}.png", synthetic=False)
    verdicts = ", ".join(
        f"{count} {name}" for name, count in table["verdict"].value_counts().items()
    )
    say(f"{len(table)} scans: {verdicts}; written to {output / GROUP}.tsv")
    return table


def _read(bids_dir: Path, cache: Path | None) -> pd.DataFrame:
    if not bids_dir.is_dir():
        raise CohortError(str(bids_dir), "is not a folder.", "Give a BIDS data set.")
    options = CohortOptions(str(bids_dir), skip_bad=True, cache=cache)
    reading = read_options(options, require_age=False)
    tell_entries(reading.rejected)
    table = reading.cohort.table
    return table.assign(stem=name_scans(table), cache=str(options.cache_dir.absolute()))


def _choose(table: pd.DataFrame, options: BidsOptions) -> pd.DataFrame:
    """Keep the scans of the labels that are asked for; a label that is not there is an error."""
    for column, entity, labels in (
        ("subject_id", "sub", options.participants),
        ("session_id", "ses", options.sessions),
    ):
        names = [f"{entity}-{label.removeprefix(f'{entity}-')}" for label in labels]
        known = set(table[column])
        for name in names:
            if name not in known:
                remedy = suggest(name, known).strip()
                raise CohortError(name, "has no T1w file that can be used.", remedy)
        if names:
            table = table[table[column].isin(names)]
    if table.empty:
        raise CohortError("bids", "no scan is left by the labels.")
    return table


def _examine(row: Json, bids_dir: Path, output: Path, model: Model, options: BidsOptions) -> str:
    """Write what comes of one scan; returns its verdict."""
    stem = output / row["stem"]
    cache = Path(row["cache"])
    known = pd.notna(row["age_years"])
    age: float | None = float(row["age_years"]) if known else None
    asked = ExamineOptions(stem.name, age, row.get("sex") or "", options.level, cache_dir=cache)
    page = stem.with_name(f"{stem.name}{REPORT_END}")
    for end in (REPORT_END, IMAGE_END, MASK_END):
        # A scan that fails now may have had an age and a volume before.
        for path in stem.parent.glob(f"{stem.name}{end}.*"):
            remove_old(path)
    try:
        findings = examine_scan(model, row["path"], asked)
    except (VolumeError, PreparationError) as error:
        quality = {"verdict": "failed", "reasons": [error.reason]}
        numbers = {"scan": stem.name, "quality": quality, "result": None, "volumes_ml": {}}
        atomic_write_text(page.with_name(f"{page.name}.json"), json.dumps(numbers, indent=2) + "\n")
        return "failed"
    write_report(build_report(findings), page)
    settings = model.bundle.config.preprocessing.on_grid(SPACING_MM, FIELD_MM)
    request = ScanRequest(row["scan_id"], row["path"], str(cache), settings.model_dump(mode="json"))
    record: ScanRecord = derive_scan(request)
    if record.verdict != "failed":
        uri = source_uri(row["path"], str(bids_dir))
        place_volumes(record, PreparedStore(cache), output, row["stem"], uri)
    return findings.verdict


def _refuse_several_models(numbers: Mapping[Path, Json], output: Path) -> None:
    """Refuse ages that cannot be compared; a scan that could not be read has none."""
    kinds: dict[tuple[object, ...], list[str]] = {}
    for path, found in numbers.items():
        if found["result"] is not None:
            model = found["model"]
            level, version = found["result"]["level"], found.get("preparation_version")
            kind = (model["weights_sha256"], model["offset_years"], level, version)
            kinds.setdefault(kind, []).append(path.name.removesuffix(f"{REPORT_END}.json"))
    if len(kinds) > 1:
        listed = ", ".join(f"{len(names)} such as {names[0]}" for names in kinds.values())
        problem = f"has reports by {len(kinds)} models, offsets, levels or versions: {listed}."
        remedy = "Run the level participant on all with one --model and --level."
        raise CohortError(str(output), problem, remedy)


def _group_row(path: Path, output: Path, numbers: Json) -> dict[str, Any]:
    subject, *rest = path.relative_to(output).parts[:-2]
    result = numbers["result"] or {}
    return {
        "participant_id": subject,
        "session_id": rest[0] if rest else "",
        "scan_id": path.name.removesuffix(f"{REPORT_END}.json"),
        **{name: result.get(name) for name in _NUMBERS},
        **_marks(numbers),
        "sex": result.get("sex") or "",
        "verdict": numbers["quality"]["verdict"],
        "reasons": "; ".join(numbers["quality"]["reasons"]),
        **{f"{name}_ml": numbers["volumes_ml"].get(name) for name in STRUCTURES},
    }


def _marks(numbers: Json) -> dict[str, Any]:
    """By which model a row is, and of which level its interval, as tables of `predict` have it."""
    if numbers["result"] is None:
        return {PREDICTED_BY: None, INTERVAL_LEVEL: None}
    model, version = numbers["model"], numbers.get("preparation_version", 0)
    told = mark(model["weights_sha256"], model["offset_years"], version)
    return {PREDICTED_BY: told, INTERVAL_LEVEL: numbers["result"]["level"]}


def _write_cohort(table: pd.DataFrame, output: Path) -> None:
    """Write the people and the cohort table of the volumes, for `brainage.train` and others."""
    stems = [
        "/".join(part for part in (subject, session, "anat", scan) if part)
        for subject, session, scan in zip(
            table["participant_id"], table["session_id"], table["scan_id"], strict=True
        )
    ]
    people = table[["scan_id", "session_id", "age_years", "sex", "verdict"]].assign(
        subject_id=table["participant_id"],
        site="",
        path=[f"{stem}{IMAGE_END}.nii.gz" for stem in stems],
    )
    # BIDS wants every folder's person in its table, also one whose scan cannot be used.
    write_people(output, people, stems)
    cohort = people[[(output / path).is_file() for path in people["path"]]]
    write_table(cohort, output / COHORT)
