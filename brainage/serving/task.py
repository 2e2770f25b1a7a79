"""What a child process does for the app: one scan in, files of findings out, nothing else."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from brainage.cohorts.sample import SAMPLE_WORDS, write_sample
from brainage.errors import BrainageError, BundleError
from brainage.files import atomic_write_text
from brainage.inference.model import load_once
from brainage.plotting.planes import RADIOLOGICAL, map_limit
from brainage.preprocessing.mni import resample_volume
from brainage.report import (
    ExamineOptions,
    Findings,
    Report,
    Typed,
    build_report,
    examine_scan,
    get_ready,
    write_report,
)
from brainage.scans.open import scan_series
from brainage.serving.names import (
    IMAGE,
    MAP,
    PICTURES,
    REPORT,
    RESULT,
    STAGES,
)
from brainage.types import Json, Volume


def warm(argument: Json) -> Json:
    """Load the model and all that a report needs, before anybody waits."""
    get_ready(load_once(Path(argument["model"])).bundle)
    return {}


def look(argument: Json) -> Json:
    """List the DICOM series of a job's upload, the best T1 first; none of an image file.

    Parameters
    ----------
    argument : dict
        ``folder`` and ``scan``, a file in it.

    Returns
    -------
    dict
        As of `examine`.
    """
    folder = Path(argument["folder"])
    try:
        offered = scan_series(folder / argument["scan"], "scan")
    except BrainageError as error:
        return {"refused": error.reason, "seconds": []}
    atomic_write_text(folder / RESULT, json.dumps({"series": [asdict(one) for one in offered]}))
    return {"refused": "", "seconds": []}


def examine(argument: Json) -> Json:
    """Examine the scan of a job and write everything into the job's folder.

    Parameters
    ----------
    argument : dict
        ``folder``, ``scan`` (a file in it), ``model`` (folder), ``model_name``, ``label``,
        ``age_years``, ``sex``, ``person_name``, ``study_id``, ``scan_date``, ``map_method``,
        ``series``, ``orientation``.

    Returns
    -------
    dict
        ``refused``: why the scan cannot be used; empty if the findings were written.
    """
    folder = Path(argument["folder"])
    stages = _Stages(folder / STAGES)
    try:
        stages.begin("model")
        loaded = load_once(Path(argument["model"])).with_series(argument.get("series"))
        model = replace(loaded, name=argument["model_name"])
        options = ExamineOptions(
            argument["label"],
            argument.get("age_years"),
            argument.get("sex", ""),
            map_method=argument.get("map_method", ""),
        )
        scan = folder / argument["scan"]
        if argument.get("sample"):
            scan = folder / "scan.nii.gz"
            write_sample(scan)
        findings = examine_scan(model, scan, options, on_stage=stages.begin)
        if argument.get("sample"):
            findings = replace(findings, reasons=(SAMPLE_WORDS, *findings.reasons))
        stages.begin("report")
        typed = Typed(
            *(argument.get(name, "") for name in ("person_name", "study_id", "scan_date"))
        )
        orientation = argument.get("orientation", RADIOLOGICAL)
        report = build_report(findings, typed, orientation=orientation)
        _write(folder, findings, report)
    except BundleError:
        # Its words name folders of this server.
        refused = "The model cannot be opened. Tell the person who runs this server."
        return {"refused": refused, "seconds": stages.end()}
    except BrainageError as error:
        return {"refused": error.reason, "seconds": stages.end()}
    return {"refused": "", "seconds": stages.end()}


class _Stages:
    """Names and seconds of the stages so far, in a file that the page reads."""

    def __init__(self, path: Path) -> None:
        self._path, self._done = path, list[list[str | float]]()
        self._start = time.monotonic()
        self._name = ""

    def begin(self, name: str) -> None:
        self.end()
        self._name, self._start = name, time.monotonic()
        atomic_write_text(self._path, json.dumps({"done": self._done, "now": name}))

    def end(self) -> list[list[str | float]]:
        if self._name:
            self._done.append([self._name, round(time.monotonic() - self._start, 2)])
        self._name = ""
        return self._done


def _write(folder: Path, findings: Findings, report: Report) -> None:
    write_report(report, folder / REPORT)
    content = asdict(report) | {"file_name": report.file_name}
    for name in PICTURES:
        picture = getattr(report, name)
        if picture is not None:
            (folder / f"{name}.png").write_bytes(picture.png)
            content[name] = {"alternative": picture.alternative, "caption": picture.caption}
    if findings.image is not None:
        _save_image(folder / IMAGE, findings.image)
    if (attribution := findings.attribution) is not None:
        limit = map_limit(attribution.volume.data)
        _save_map(folder / MAP, attribution.volume, findings.image, limit)
        low, high = attribution.legend
        content["overlay"] = {"unit": attribution.unit, "limit": limit, "low": low, "high": high}
    atomic_write_text(folder / RESULT, json.dumps(content))


def _save_image(path: Path, volume: Volume) -> None:
    """Write the picture for the viewer: eight bits are all that a screen shows."""
    data = np.asarray(volume.data, dtype=np.float32)
    top = float(np.percentile(data[data > 0], 99.8)) if (data > 0).any() else 1.0
    shown = (255 * np.clip(data / top, 0, 1)).astype(np.uint8)
    nib.save(nib.Nifti1Image(shown, volume.affine), path)


def _save_map(path: Path, volume: Volume, image: Volume | None, limit: float) -> None:
    """Write the map on the picture's grid: the network's voxels are too coarse to look at.

    Values beyond the limit are drawn like the limit; NiiVue would draw them wrongly.
    """
    if image is not None:
        data = resample_volume(volume, image.affine, image.data.shape)
        volume = Volume(data, image.affine)
    data = np.clip(volume.data, -limit, limit).astype(np.float32)
    nib.save(nib.Nifti1Image(data, volume.affine), path)
