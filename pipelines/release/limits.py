"""Measure the reference cohorts and derive the quality gate's limits from them.

Run it whenever placement, masks or measures change; it takes 20 minutes of processor::

    python -m pipelines.release.limits --data ../shared/data --output build/limits --install

It places every reference scan, `--jobs` at a time, writes its measures (measures.csv) and
``limits.json``, says how many held-out scans pass, and with ``--install`` puts limits.json into the
package. Placements are kept in ``OUTPUT/cache`` and taken up again as long as
`brainage.prepared.store.CODE_VERSION`, settings and libraries are the same.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from brainage.config import PreprocessingConfig
from brainage.errors import BrainageError
from brainage.files import atomic_write_text
from brainage.prepared.placement import process_source
from brainage.prepared.source import ScanSource
from brainage.prepared.store import PreparedStore
from brainage.preprocessing.verdict import (
    FAIL_REACHES,
    GROUPS,
    LEFT_OUT_PERCENT,
    LIMITS_FILE,
    REACH_PERCENT,
    derive_limits,
    judge_by,
)
from brainage.sandbox.engines import Engine, run_tasks
from brainage.scans.volume import load_volume
from brainage.types import DoubleArray, Json, Volume
from brainage.workflows.console import run_as_command, say

SETTINGS = PreprocessingConfig()
MAX_TURN_DEGREES, MAX_SHIFT_MM = 20.0, 30.0
RULE = (
    "reach = distance from the reference's median to the percentile that leaves out "
    f"{REACH_PERCENT:g} % on the bad side; limits lie so many reaches away, the same number for "
    "all measures, as the conformal quantile of the reference's leave-one-out scores says: a scan "
    f"like the reference's breaks any with a probability of at most {LEFT_OUT_PERCENT:g} %; "
    f"a scan fails {FAIL_REACHES:g} reaches out in a decisive measure"
)
MAX_FOLDS = 60
TASK = "pipelines.release.limits:measure_task"


@dataclass(frozen=True)
class Reference:
    """A scan of the reference.

    Attributes
    ----------
    group : str
        Whose limits it helps to make.
    scan, path : str
        Its name in measures.csv, and its file.
    mask : str
        Brain mask to strip it by, or empty.
    mask_to : str
        Where to write the mask that is found, or empty.
    """

    group: str
    scan: str
    path: str
    mask: str = ""
    mask_to: str = ""


def main() -> None:
    """Measure, derive, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="scans at a time")
    parser.add_argument("--every", type=int, default=1, help="take every n-th scan")
    parser.add_argument("--install", action="store_true", help="put limits.json into the package")
    arguments = parser.parse_args()
    output = arguments.output.absolute()
    brains = sorted(arguments.data.absolute().glob("oasis1/t1/*.nii.gz"))[:: arguments.every]
    heads = sorted(arguments.data.absolute().glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))
    heads = heads[:: arguments.every]
    whole = [Reference("mni brain", path.name, str(path)) for path in brains]
    whole += [
        Reference("raw head", path.name, str(path), mask_to=str(output / "masks" / path.name))
        for path in heads
    ]
    rows = measure_all(whole, output, arguments.jobs)
    rows += measure_all(list_extracted(brains, heads, output), output, arguments.jobs)
    table = pd.DataFrame(rows).sort_values(["group", "scan"])
    table.to_csv(output / "measures.csv", index=False)
    text = build_limits(table)
    atomic_write_text(output / "limits.json", text)
    if arguments.install:
        atomic_write_text(LIMITS_FILE, text)
    say(f"written to {LIMITS_FILE if arguments.install else output / 'limits.json'}")
    for name, part in table.groupby("group"):
        held_out = held_out_share(read_measures(part))
        say(f"{name}: {len(part)} scans, {held_out:.1%} of held-out scans are ok")


def list_extracted(brains: list[Path], heads: list[Path], output: Path) -> list[Reference]:
    """List brains outside MNI space: every eighth in it, moved, and every second head, stripped.

    Moved brains are written with another affine; heads are stripped by the mask found in them.
    """
    listed = []
    for index, path in enumerate(brains[::8]):
        volume, target = load_volume(path), output / "moved" / path.name
        pose = random_pose(np.random.default_rng([index, 1]))
        target.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(volume.data, pose @ volume.affine), target)
        listed.append(Reference("extracted brain", f"moved {path.name}", str(target)))
    for path in heads[::2]:
        mask = output / "masks" / path.name
        if mask.exists():
            listed.append(
                Reference("extracted brain", f"stripped {path.name}", str(path), str(mask))
            )
    return listed


def measure_all(references: Sequence[Reference], output: Path, jobs: int) -> list[Json]:
    """Measure scans, several at a time; one that cannot be placed is said and left out."""
    tasks = [
        {
            "path": one.path,
            "mask": one.mask,
            "mask_to": one.mask_to,
            "cache": str(output / "cache"),
        }
        for one in references
    ]
    rows = []
    for position, outcome in run_tasks(TASK, tasks, Engine("processes", jobs)):
        one, found = references[position], outcome.result or {"problem": outcome.problem}
        if "problem" in found:
            say(f"left out: {one.scan}: {found['problem']}")
        elif GROUPS[found["kind"]] != one.group:
            say(f"left out: {one.scan}: taken for {found['kind']}, not {one.group}")
        else:
            rows.append({"group": one.group, "scan": one.scan, **found["measures"]})
    return rows


def measure_task(task: Json) -> Json:
    """Measure one scan between JSON objects, as child processes do."""
    source = ScanSource(task["path"], mask=task["mask"])
    try:
        processed = process_source(source, SETTINGS, PreparedStore(Path(task["cache"]))).processed
    except BrainageError as error:
        return {"problem": error.reason}
    if task["mask_to"]:
        save_mask(processed.placement.mask, Path(task["mask_to"]))
    return {"kind": processed.recognised, "measures": processed.measures}


def save_mask(mask: Volume, path: Path) -> None:
    """Write a brain mask as bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image((mask.data >= 0.5).astype(np.uint8), mask.affine), path)


def random_pose(rng: np.random.Generator) -> DoubleArray:
    """Rigid motion (4, 4) in mm: a turn about each axis and a shift along each."""
    pose = np.eye(4)
    angles = rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES, 3)
    pose[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    pose[:3, 3] = rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3)
    return pose


def read_measures(part: pd.DataFrame) -> list[dict[str, float]]:
    """Measures of each scan of a group, without those that it does not have."""
    columns = part.drop(columns=["group", "scan"])
    rows = (row.dropna() for _, row in columns.iterrows())
    return [{str(name): float(value) for name, value in row.items()} for row in rows]


def held_out_share(measures: list[dict[str, float]]) -> float:
    """Share of scans that are ok by limits derived without them, in up to `MAX_FOLDS` folds."""
    folds = min(MAX_FOLDS, len(measures))
    passed = []
    for fold in range(folds):
        kept = [scan for index, scan in enumerate(measures) if index % folds != fold]
        limits = derive_limits(kept)
        passed += [judge_by(limits, scan)[0] == "ok" for scan in measures[fold::folds]]
    return float(np.mean(passed))


def build_limits(table: pd.DataFrame) -> str:
    """Derive the limits of each group; JSON with four digits each."""
    limits, counts = {}, {}
    for group, part in table.groupby("group"):
        derived = derive_limits(read_measures(part))
        counts[group] = len(part)
        limits[group] = {
            name: {side: float(f"{value:.4g}") for side, value in limit.items()}
            for name, limit in derived.items()
        }
    return json.dumps({"rule": RULE, "scans": counts, "limits": limits}, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(run_as_command(main))
