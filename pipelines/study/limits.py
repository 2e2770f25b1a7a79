"""Measure the reference cohorts and derive the quality gate's limits from them.

``python -m pipelines.study.limits --data ../shared/data --output limits`` writes the measures of
every reference scan (measures.csv) and ``limits.json``, which the package carries.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from brainage.config import PreprocessingConfig
from brainage.data.volume import load_volume
from brainage.preprocessing.locate import Clock, locate_brain
from brainage.preprocessing.quality import FAIL_FACTOR, LIMIT_DEVIATIONS, derive_limits, measure
from brainage.types import DoubleArray, Volume
from pipelines.console import say

SETTINGS = PreprocessingConfig(spacing_mm=3.0, shape=(52, 64, 52))
MAX_TURN_DEGREES, MAX_SHIFT_MM = 20.0, 30.0
RULE = (
    f"median ± {LIMIT_DEVIATIONS:g} robust standard deviations (1.4826 MAD) of the reference, on "
    f"the bad side; failed beyond {FAIL_FACTOR:g} times that distance for decisive measures"
)


def main() -> None:
    """Measure, derive, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take every n-th scan")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for group, name, volume, mask in read_reference(arguments.data, arguments.every):
        located = locate_brain(volume, mask, SETTINGS, name, Clock())
        rows.append({"group": group, "scan": name, **measure(located, volume)})
        say(f"{group}: {name}")
        pd.DataFrame(rows).to_csv(arguments.output / "measures.csv", index=False)
    write_limits(pd.DataFrame(rows), arguments.output / "limits.json")


def read_reference(data: Path, every: int) -> Iterator[tuple[str, str, Volume, Volume | None]]:
    """Group, name, scan and perhaps mask of every reference scan.

    Whole heads are IXI's. Brains in MNI space are OASIS-1's. Extracted brains elsewhere are every
    eighth of those, turned and shifted at random by their affine, and every second head of IXI
    with the mask that was found.
    """
    for index, path in enumerate(sorted(data.glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))[::every]):
        volume = load_volume(path)
        yield "raw head", path.name, volume, None
        if index % 2 == 0:
            located = locate_brain(volume, None, SETTINGS, path.name, Clock())
            yield "extracted brain", path.name, volume, located.mask
    for index, path in enumerate(sorted(data.glob("oasis1/t1/*.nii.gz"))[::every]):
        volume = load_volume(path)
        yield "mni brain", path.name, volume, None
        if index % 8 == 0:
            moved = random_pose(np.random.default_rng([index, 1])) @ volume.affine
            yield "extracted brain", path.name, Volume(volume.data, moved), None


def random_pose(rng: np.random.Generator) -> DoubleArray:
    """Rigid motion (4, 4) in mm: a turn about each axis and a shift along each."""
    pose = np.eye(4)
    angles = rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES, 3)
    pose[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    pose[:3, 3] = rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3)
    return pose


def write_limits(table: pd.DataFrame, path: Path) -> None:
    """Derive the limits of each group and write them, four digits each."""
    limits, counts = {}, {}
    for group, part in table.groupby("group"):
        columns = part.drop(columns=["group", "scan"]).dropna(axis=1, how="all")
        derived = derive_limits(columns.to_dict("records"))
        counts[group] = len(part)
        limits[group] = {
            name: {side: float(f"{value:.4g}") for side, value in limit.items()}
            for name, limit in derived.items()
        }
    content = {"rule": RULE, "scans": counts, "limits": limits}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    say(f"written to {path}")


if __name__ == "__main__":
    main()
