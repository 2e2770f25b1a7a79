"""What the node's child process does: one study in, results as DICOM files out."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from brainage import __version__
from brainage.errors import BrainageError, BundleError, VolumeError
from brainage.files import is_disk_full
from brainage.node.spool import code
from brainage.scans.dicom.choice import SeriesChoice
from brainage.scans.dicom.read import identify_patient, list_files
from brainage.scans.dicom.series import check_people
from brainage.scans.open import read_source_headers, scan_series
from brainage.types import Json

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from brainage.report import Findings

WHERE = "study"


def examine_study(argument: Json) -> Json:
    """Choose the T1 of a study, gate and predict it, and write the results.

    Parameters
    ----------
    argument : dict
        ``objects`` and ``results``, folders; ``study``, the name of the study; ``model``, a folder,
        with ``model_name`` and ``model_version``; ``map_method``, ``orientation`` and
        ``age_from_dicom``.

    Returns
    -------
    dict
        One of ``done``, what there is to say; ``refused``, why no result can be given; ``later``,
        what must be mended first.
    """
    from brainage.report.dicom_files import write_dicom

    objects = Path(argument["objects"])
    try:
        chosen, note = choose_t1(objects)
        sources = read_sources(objects, chosen, argument["study"])
        findings = _examine(objects, chosen, argument)
        if findings.verdict == "failed":
            return {"refused": f"quality gate, {note}: {'; '.join(findings.reasons)}"}
        results = Path(argument["results"])
        key = _result_key(sources[0].StudyInstanceUID, findings, argument)
        write_dicom(findings, sources, results, argument["orientation"], key)
    except BundleError:
        return {"later": "the model cannot be opened"}
    except (BrainageError, OSError) as error:
        if is_disk_full(error):
            return {"later": "the disk is full"}
        if not isinstance(error, BrainageError):
            raise
        return {"refused": error.reason}
    flags = f", flagged: {'; '.join(findings.reasons)}" if findings.verdict != "ok" else ""
    return {"done": note + flags}


def choose_t1(objects: Path) -> tuple[SeriesChoice, str]:
    """Choose the best usable T1 series of a study, and say which it is of how many.

    Raises
    ------
    VolumeError
        If there is none, a file is damaged, or the study holds more than one patient.
    """
    import pydicom

    names = ["PatientID", "PatientName"]
    people = set()
    for number, path in enumerate(list_files(objects, WHERE), start=1):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(names))
            people.add(identify_patient(header))
        except Exception as error:  # a damaged header makes pydicom raise nearly anything
            problem = f"object {number} is damaged ({type(error).__name__})."
            raise VolumeError(WHERE, problem) from error
    check_people(people, WHERE)
    offered = scan_series(objects, WHERE)
    usable = [one for one in offered if one.looks_t1 and not one.problem]
    if not usable:
        said = "; ".join(f"{one.words}: {one.problem or 'does not look T1'}" for one in offered)
        raise VolumeError(WHERE, f"no series is a T1 that can be used. {said}.")
    others = f", the best of {len(usable)} T1 series" if len(usable) > 1 else ""
    return usable[0], usable[0].words + others


def read_sources(objects: Path, chosen: SeriesChoice, study: str) -> "Sequence[Dataset]":
    """Read whose the results are.

    Raises
    ------
    VolumeError
        If an image of the series is of another study than the node took it for.
    """
    sources = read_source_headers(objects, WHERE, series=chosen.uid)
    if any(code(one.StudyInstanceUID) != study for one in sources):
        raise VolumeError(WHERE, "an object names two studies.")
    return sources


def _result_key(study_uid: str, findings: "Findings", argument: Json) -> str:
    """Return what tells results on a study apart: offset and intervals of the model, too."""
    asked = {name: argument[name] for name in ("map_method", "orientation", "age_from_dicom")}
    said = [study_uid, findings.model.sha256, findings.model.facts, asked, __version__]
    return json.dumps(said, sort_keys=True)


def _examine(objects: Path, chosen: SeriesChoice, argument: Json) -> "Findings":
    from brainage.inference.model import load_once
    from brainage.report import ExamineOptions, examine_scan

    loaded = load_once(Path(argument["model"])).with_series(chosen.uid)
    model = replace(loaded, name=argument["model_name"], version=argument["model_version"])
    takes_age = argument["age_from_dicom"]
    options = ExamineOptions(
        age_years=chosen.age_years if takes_age else None,
        sex=chosen.sex if takes_age else "",
        map_method=argument["map_method"],
    )
    return examine_scan(model, objects, options)
