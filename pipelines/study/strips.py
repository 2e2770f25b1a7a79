"""Measure where a head lies in MNI space, whole and stripped, whatever its background.

``python -m pipelines.study.strips --data ../shared/data --output strips`` writes
strips.csv, one row for each IXI head and strip: how far the template's brain lies from where the
whole head's placement puts it, in mm, and the gate's verdict.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from brainage.config import PreprocessingConfig
from brainage.prepared.placement import process_source
from brainage.prepared.source import ScanSource
from brainage.preprocessing.mni import resample_volume
from brainage.preprocessing.perturbations import Change, Original, fill_background, strip
from brainage.preprocessing.registration import displacement_mm
from brainage.scans.volume import load_volume
from brainage.types import Json
from brainage.workflows.console import run_as_command, say

STRIPS: dict[str, Change] = {
    "own mask": partial(strip, grown_mm=0),
    "2 mm loose": partial(strip, grown_mm=2),
    "2 mm tight": partial(strip, grown_mm=-2),
}
BACKGROUNDS = (-1000.0, 255.0, np.nan)


def main() -> None:
    """Place, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take every n-th head")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = []
    heads = sorted(arguments.data.glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))[:: arguments.every]
    with tempfile.TemporaryDirectory(prefix="brainage-strips-") as folder:
        for path in heads:
            rows += compare_strips(path, Path(folder))
            pd.DataFrame(rows).to_csv(arguments.output / "strips.csv", index=False)
    for name, part in pd.DataFrame(rows).groupby("strip", sort=False):
        moved, ok = part["moved_mm"], (part["verdict"] == "ok").mean()
        say(
            f"{name}: {len(part)} heads, moved {moved.median():.2f} mm (95 %: "
            f"{moved.quantile(0.95):.2f}, largest {moved.max():.2f}), ok {ok:.0%}"
        )


def compare_strips(path: Path, folder: Path) -> list[Json]:
    """One row a strip of a head, and a background of its loose strip."""
    volume = load_volume(path)
    whole = process_source(ScanSource(str(path)), PreprocessingConfig()).processed
    brain = resample_volume(whole.placement.mask, volume.affine, volume.data.shape) >= 0.5
    scan = Original(volume, np.random.default_rng(0), lambda: brain)
    changed = {name: change(scan) for name, change in STRIPS.items()}
    loose = replace(scan, volume=changed["2 mm loose"])
    for value in BACKGROUNDS:
        changed[f"2 mm loose, {value:g} outside"] = fill_background(loose, value)
    rows = []
    for name, stripped in changed.items():
        file = folder / "stripped.nii"
        nib.save(nib.Nifti1Image(stripped.data, stripped.affine), file)
        found = process_source(ScanSource(str(file)), PreprocessingConfig()).processed
        moved = displacement_mm(found.transform, whole.transform)
        row = {"scan": path.name, "strip": name, "moved_mm": moved, "verdict": found.verdict}
        rows.append(row | {"reason": "; ".join(found.reasons)})
    return rows


if __name__ == "__main__":
    sys.exit(run_as_command(main))
