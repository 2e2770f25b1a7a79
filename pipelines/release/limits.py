"""Measure the reference cohorts and derive the quality gate's limits from them.

``python -m pipelines.release.limits --data ../shared/data --output limits`` writes the measures of
every reference scan (measures.csv) and ``limits.json``, which the package carries.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from brainage.config import PreprocessingConfig
from brainage.preprocessing.locate import Clock, locate_brain
from brainage.preprocessing.quality import (
    FAIL_REACHES,
    LEFT_OUT_PERCENT,
    REACH_PERCENT,
    derive_limits,
    measure,
)
from brainage.scans.volume import load_volume
from brainage.types import DoubleArray, Json, Volume
from brainage.workflows.console import say

SETTINGS = PreprocessingConfig(spacing_mm=3.0, shape=(52, 64, 52))
MAX_TURN_DEGREES, MAX_SHIFT_MM = 20.0, 30.0
RULE = (
    "reach = distance from the reference's median to the percentile that leaves out "
    f"{REACH_PERCENT:g} % on the bad side; limits lie so many reaches away, the same number for "
    "all measures, as the conformal quantile of the reference's leave-one-out scores says: a scan "
    f"like the reference's breaks any with a probability of at most {LEFT_OUT_PERCENT:g} %; "
    f"a scan fails {FAIL_REACHES:g} reaches out in a decisive measure"
)
MAX_FOLDS = 60


def main() -> None:
    """Measure, derive, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take every n-th scan")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    table = arguments.output / "measures.csv"
    earlier = pd.read_csv(table).to_dict("records") if table.exists() else []
    rows = cast(list[Json], earlier)
    done = {(row["group"], row["scan"]) for row in rows}
    for group, path, pose in list_reference(arguments.data, arguments.every):
        if (group, path.name) in done:
            continue
        rows.append({"group": group, "scan": path.name, **measure_reference(group, path, pose)})
        say(f"{group}: {path.name}")
        pd.DataFrame(rows).to_csv(table, index=False)
    reference = drop_others(pd.DataFrame(rows))
    write_limits(reference, arguments.output / "limits.json")
    for name, part in reference.groupby("group"):
        say(f"{name}: {held_out_share(read_measures(part)):.1%} of held-out scans pass")


def list_reference(data: Path, every: int) -> Iterator[tuple[str, Path, DoubleArray | None]]:
    """Group, file and perhaps pose of every reference scan.

    Brains in MNI space are OASIS-1's, whole heads IXI's. Extracted brains elsewhere are every
    eighth of the former, turned and shifted at random by their affine, and every second of the
    latter with the mask that was found.
    """
    brains = sorted(data.glob("oasis1/t1/*.nii.gz"))[::every]
    heads = sorted(data.glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))[::every]
    for path in brains:
        yield "mni brain", path, None
    for path in heads:
        yield "raw head", path, None
    for index, path in enumerate(brains[::8]):
        yield "extracted brain", path, random_pose(np.random.default_rng([index, 1]))
    for path in heads[::2]:
        yield "extracted brain", path, None


def measure_reference(group: str, path: Path, pose: DoubleArray | None) -> dict[str, float]:
    """Measures of a reference scan, moved to a pose or stripped by its own mask first."""
    volume = load_volume(path)
    if pose is not None:
        volume = Volume(volume.data, pose @ volume.affine)
    located = locate_brain(volume, None, SETTINGS, path.name, Clock())
    if group == "extracted brain" and pose is None:
        located = locate_brain(volume, located.placement.mask, SETTINGS, path.name, Clock())
    return measure(located, volume)


def random_pose(rng: np.random.Generator) -> DoubleArray:
    """Rigid motion (4, 4) in mm: a turn about each axis and a shift along each."""
    pose = np.eye(4)
    angles = rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES, 3)
    pose[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    pose[:3, 3] = rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3)
    return pose


def drop_others(table: pd.DataFrame) -> pd.DataFrame:
    """Return the reference without moved brains that were still taken for ones in MNI space.

    Nothing registered them, so that they say nothing of brains that are registered.
    """
    others = (table["group"] == "extracted brain") & table["extracted_correlation"].isna()
    return table[~others]


def read_measures(part: pd.DataFrame) -> list[dict[str, float]]:
    """Measures of each scan of a group, without those that it does not have."""
    columns = part.drop(columns=["group", "scan"])
    rows = (row.dropna() for _, row in columns.iterrows())
    return [{str(name): float(value) for name, value in row.items()} for row in rows]


def held_out_share(measures: list[dict[str, float]]) -> float:
    """Share of scans that pass limits derived without them, in up to `MAX_FOLDS` folds."""
    folds = min(MAX_FOLDS, len(measures))
    passed = []
    for fold in range(folds):
        kept = [scan for index, scan in enumerate(measures) if index % folds != fold]
        limits = derive_limits(kept)
        bounds = {k: (v.get("low", -np.inf), v.get("high", np.inf)) for k, v in limits.items()}
        passed += [
            all(bounds[k][0] <= value <= bounds[k][1] for k, value in scan.items())
            for scan in measures[fold::folds]
        ]
    return float(np.mean(passed))


def write_limits(table: pd.DataFrame, path: Path) -> None:
    """Derive the limits of each group and write them, four digits each."""
    limits, counts = {}, {}
    for group, part in table.groupby("group"):
        derived = derive_limits(read_measures(part))
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
