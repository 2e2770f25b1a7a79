"""Make the model of the skull's inside that the package carries, from whole heads.

``python -m pipelines.release.skull --data ../shared/data`` writes ``brainage/preprocessing/
skull.npz`` and says its SHA-256, which belongs into ``SKULL_SHA256``. Every second IXI head is
used; the others are left for judging. The surface starts on the template's brain, its folds at the
skull's base closed, and moves to where the mean head's brightness has fallen half of the way from
brain to bone. Where along its profiles the mask ends is what an independent segmentation of the
same heads (DLMUSE) says on average.
"""

import argparse
import io
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.files import atomic_write_bytes, sha256_bytes
from brainage.preprocessing.head import scale_brightness, to_straight_grid
from brainage.preprocessing.locate import correct_inside, mask_on
from brainage.preprocessing.pose import lay_straight
from brainage.preprocessing.registration import Alignment, register_finely
from brainage.preprocessing.skull import (
    OFFSETS_MM,
    PROFILE_MM,
    REACH_MM,
    SKULL_FILE,
    Surface,
    make_surface,
)
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_template
from brainage.preprocessing.threads import one_thread
from brainage.scans.volume import load_volume
from brainage.types import BoolArray, DoubleArray, FloatArray, Volume
from brainage.workflows.console import run_as_command, say

# Radius of the closing that fills the folds at the skull's base.
CLOSING_MM = 12.0
# The dura: the inside of the skull lies so far outside of half height.
BEYOND_HALF_MM = 1.5
ROUNDS, FITS = 3, 3
# A segmentation that ends farther off says nothing of the surface there.
FARTHEST_MM = 6.0


@dataclass(frozen=True)
class Head:
    """A whole head that lies straight, bias field removed, and its alignment so far.

    ``outline`` holds distances in mm from the segmentation's outline, negative inside.
    """

    volume: Volume
    alignment: Alignment
    outline: Volume


def main() -> None:
    """Build, write, and say the hash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--every", type=int, default=2, help="take every n-th head")
    parser.add_argument("--output", type=Path, default=SKULL_FILE)
    arguments = parser.parse_args()
    files = sorted(arguments.data.glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))[:: arguments.every]
    with one_thread():
        heads = [read_head(path, arguments.data / "ixi_dlmuse") for path in files]
        content = pack(*build(heads))
    atomic_write_bytes(arguments.output, content)
    say(f"{len(heads)} heads, {len(content)} bytes, SHA-256 {sha256_bytes(content)}")


def read_head(path: Path, segmentations: Path) -> Head:
    """Read a head and its segmentation, lay both straight and remove the head's bias field."""
    settings = PreprocessingConfig()
    straight = lay_straight(load_volume(path), None, path.name)
    scaled = scale_brightness(straight.volume, path.name)
    working = to_straight_grid(scaled, settings.working_spacing_mm)
    scan = path.name.removesuffix("_T1w.nii.gz")
    labels = load_volume(segmentations / f"{scan}_dlmuse.nii.gz")
    affine = np.linalg.inv(straight.to_scan) @ labels.affine
    outline = Volume(signed_distance(labels.data > 0, labels.spacing_mm[0]), affine)
    return Head(correct_inside(working, straight.start, settings)[0], straight.start, outline)


def build(heads: list[Head]) -> tuple[Surface, FloatArray, FloatArray, DoubleArray]:
    """Move the surface to the mean skull, and the heads onto it, in turn."""
    distance = signed_distance(close(load_template(TISSUE_SPACING_MM).mask), TISSUE_SPACING_MM)
    for number in range(ROUNDS):
        surface = make_surface(distance)
        mean, deviation, offsets = average(surface, heads)
        level = surface.share_offsets @ half_height(mean) + BEYOND_HALF_MM
        say(f"round {number + 1}: level {np.round(np.percentile(level, (5, 50, 95)), 2)} mm")
        if number + 1 < ROUNDS:
            heads = [
                align(head, surface.move(offset + level))
                for head, offset in zip(heads, offsets, strict=True)
            ]
            distance = signed_distance(close(surface.move(level) < 0), TISSUE_SPACING_MM)
    level = level + find_level(surface, heads, mean, deviation, level)
    return surface, mean, deviation, level


def find_level(
    surface: Surface,
    heads: list[Head],
    mean: FloatArray,
    deviation: FloatArray,
    level: DoubleArray,
) -> DoubleArray:
    """Find how far (N,), in mm, the segmentations end outside of a level on average."""
    beyond = []
    for head in heads:
        profiles = surface.sample(head.volume, head.alignment.to_mni)
        end = surface.fit(profiles, mean, deviation) + level
        outline = surface.sample_along(head.outline, head.alignment.to_mni)
        beyond.append(find_crossing(outline, end) - end)
    within = np.clip(beyond, -FARTHEST_MM, FARTHEST_MM)
    return np.asarray(surface.share_offsets @ np.nanmean(within, axis=0))


def find_crossing(outline: FloatArray, near_mm: DoubleArray) -> DoubleArray:
    """Find where distances (N, P) along profiles turn positive, nearest to ``near_mm`` (N,).

    NaN where they do so nowhere.
    """
    inner, outer = outline[:, :-1], outline[:, 1:]
    leaves = (inner <= 0) & (outer > 0)
    step = np.where(leaves, outer - inner, 1)
    places = np.where(leaves, REACH_MM[:-1] - inner / step, np.inf)
    nearest = np.abs(places - near_mm[:, None]).argmin(axis=1)
    found = places[np.arange(len(places)), nearest]
    return np.where(np.isfinite(found), found, np.nan)


def average(
    surface: Surface, heads: list[Head]
) -> tuple[FloatArray, FloatArray, list[DoubleArray]]:
    """Average the heads' profiles, moved to agree, from the surface where it lies on average."""
    profiles = [surface.sample(head.volume, head.alignment.to_mni) for head in heads]
    offsets = [np.zeros(len(surface.points)) for _ in heads]
    for _ in range(FITS):
        moved = np.array([cut(*pair) for pair in zip(profiles, offsets, strict=True)])
        mean = (surface.share_costs @ moved.mean(axis=0)).astype(np.float32)
        variance = surface.share_costs @ moved.var(axis=0) + 0.01
        deviation = np.sqrt(variance).astype(np.float32)
        offsets = [surface.fit(profile, mean, deviation) for profile in profiles]
        centre = np.mean(offsets, axis=0)
        offsets = [offset - centre for offset in offsets]
    return mean, deviation, offsets


def cut(profiles: FloatArray, offsets: DoubleArray) -> FloatArray:
    """Cut the part of profiles (N, P) that lies around offsets in mm (N,): (N, Q)."""
    first = PROFILE_MM - (OFFSETS_MM[0] + PROFILE_MM[0])
    columns = offsets[:, None] + first
    rows = np.broadcast_to(np.arange(len(offsets))[:, None], columns.shape)
    return ndimage.map_coordinates(profiles, [rows, columns], order=1, mode="nearest")


def half_height(mean: FloatArray) -> DoubleArray:
    """Find where mean profiles (N, Q) are halfway from brain to bone, in mm (N,)."""
    inner = mean[:, :9].mean(axis=1)
    bone = 8 + mean[:, 8:20].argmin(axis=1)
    half = (inner + mean[np.arange(len(mean)), bone]) / 2
    bright = (mean > half[:, None]) & (np.arange(len(PROFILE_MM)) <= bone[:, None])
    last = len(PROFILE_MM) - 1 - bright[:, ::-1].argmax(axis=1)
    return np.where(bright.any(axis=1), PROFILE_MM[last] + 0.5, 0.0)


def align(head: Head, distance_mm: FloatArray) -> Head:
    """Register a head once more, by the brain that its skull holds."""
    affine = head.alignment.to_scan @ load_template(TISSUE_SPACING_MM).affine
    mask = mask_on(Volume((distance_mm < 0).astype(np.float32), affine), head.volume)
    return replace(head, alignment=register_finely(head.volume, mask, head.alignment))


def close(mask: BoolArray) -> BoolArray:
    """Fill folds narrower than twice `CLOSING_MM`."""
    pad = int(CLOSING_MM)
    wide = np.pad(mask, pad)
    grown = ndimage.distance_transform_edt(~wide) * TISSUE_SPACING_MM <= CLOSING_MM
    closed: BoolArray = ndimage.distance_transform_edt(grown) * TISSUE_SPACING_MM > CLOSING_MM
    return closed[pad:-pad, pad:-pad, pad:-pad]


def signed_distance(mask: BoolArray, spacing_mm: float) -> FloatArray:
    """Distance from a mask's outline in mm, negative inside, half a voxel from either side."""
    outside, inside = (ndimage.distance_transform_edt(part) for part in (~mask, mask))
    centred = np.where(mask, 0.5 - inside, outside - 0.5) * spacing_mm
    return centred.clip(-15, 15).astype(np.float32)


def pack(surface: Surface, mean: FloatArray, deviation: FloatArray, level: DoubleArray) -> bytes:
    """Pack in small types: a sixteenth of a millimetre, three digits of brightness."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        distance_mm=np.round(surface.distance_mm * 4).astype(np.int8),
        points=surface.points.astype(np.float32),
        normals=surface.normals.astype(np.float32),
        mean=mean.astype(np.float16),
        deviation=deviation.astype(np.float16),
        level_mm=level.astype(np.float32),
    )
    return stream.getvalue()


if __name__ == "__main__":
    sys.exit(run_as_command(main))
