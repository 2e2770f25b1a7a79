"""Seconds of each step and peak memory from a raw scan to the grid.

``python -m pipelines.study.steps SCAN [--upsample 2]`` processes one scan, twice: the first time
pays for loading libraries and template, the second is what each further scan of a cohort costs.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.preprocessing.pipeline import process_volume
from brainage.scans.volume import load_volume
from brainage.types import Volume
from brainage.workflows.console import run_as_command, say

SETTINGS = PreprocessingConfig(spacing_mm=3.0, shape=(52, 64, 52))


def main() -> None:
    """Process twice and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--upsample", type=int, default=1, help="make voxels so many times finer")
    arguments = parser.parse_args()
    for run in ("first", "second"):
        wall, cpu = time.perf_counter(), time.process_time()
        volume = upsample(load_volume(arguments.scan), arguments.upsample)
        processed = process_volume(volume, SETTINGS, arguments.scan.name)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        steps = ", ".join(f"{name} {seconds:.2f}" for name, seconds in processed.seconds.items())
        say(f"{run}: {volume.data.shape}, {wall:.1f} s, {cpu:.1f} s of processor; {steps}")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(f"{processed.recognised}, {processed.verdict}; peak memory {peak_mb:.0f} MB")


def upsample(volume: Volume, factor: int) -> Volume:
    """Interpolate linearly to voxels so many times finer."""
    if factor == 1:
        return volume
    affine = volume.affine @ np.diag([1 / factor] * 3 + [1.0])
    data = ndimage.zoom(volume.data, factor, order=1, grid_mode=True, mode="nearest")
    affine[:3, 3] -= volume.affine[:3, :3] @ np.full(3, (1 - 1 / factor) / 2)
    return Volume(data, affine)


if __name__ == "__main__":
    sys.exit(run_as_command(main))
