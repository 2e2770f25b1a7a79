"""Locate the brain and its pose: one route for each kind of scan."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.preprocessing.head import (
    MAX_LITRES,
    MIN_LITRES,
    crop_neck,
    estimate_bias,
    find_brains,
    refine_mask,
    scale_brightness,
    to_working_grid,
)
from brainage.preprocessing.mni import (
    Foreground,
    coarsen,
    coarsen_volume,
    find_foreground,
    is_brain_extracted,
    is_in_mni_space,
    resample_volume,
)
from brainage.preprocessing.registration import Alignment, register_candidates, register_finely
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_template
from brainage.preprocessing.threads import one_thread
from brainage.types import BoolArray, DoubleArray, FloatArray, Volume

Kind = Literal["raw head", "masked head", "extracted brain", "mni brain", "prepared brain"]


# Half the finest spacing on which the quality gate measures: finer detail counts only on a grid
# that is finer still.
_FINEST_MM = TISSUE_SPACING_MM / 2


@dataclass(frozen=True)
class Placement:
    """Where the brain of a scan lies: all that takes time, and nothing of the network's grid.

    Attributes
    ----------
    kind : {"raw head", "masked head", "extracted brain", "mni brain", "prepared brain"}
        What the scan was taken for; a prepared brain is what `brainage prepare` wrote.
    mask : Volume
        Brain (1) or not (0) in the scan's world, on a grid of its own.
    to_mni : numpy.ndarray of float64 (4, 4)
        The scan's world coordinates to MNI coordinates, both in mm.
    bias : Volume, optional
        Field to divide by, in the scan's world, on a grid of its own.
    """

    kind: Kind
    mask: Volume
    to_mni: DoubleArray
    bias: Volume | None = None


@dataclass(frozen=True)
class Located:
    """A scan with its brain found and placed, before it is resampled.

    Attributes
    ----------
    placement : Placement
    volume : Volume
        The scan, background 0, brightness about 1, at most as fine as any grid needs.
    alignment : Alignment, optional
        Absent where nothing had to be registered, or the placement was known.
    head : Volume, optional
        Corrected scan on the working grid; absent where there is no alignment.
    """

    placement: Placement
    volume: Volume
    alignment: Alignment | None = None
    head: Volume | None = None

    def sample(self, affine: DoubleArray, shape: tuple[int, ...]) -> tuple[FloatArray, BoolArray]:
        """Resample intensities, bias field removed, and brain mask onto a grid in MNI space.

        Parameters
        ----------
        affine : numpy.ndarray of float64 (4, 4)
            Index of the grid to MNI coordinates in mm.
        shape : tuple of int (3,)
        """
        placement = self.placement
        to_world = np.linalg.inv(placement.to_mni) @ affine
        data = resample_volume(self.volume, to_world, shape)
        if placement.bias is not None:
            field = resample_volume(placement.bias, to_world, shape)
            # Outside the field's grid there is nothing to correct.
            data /= np.where(field > 0, field, np.float32(1))
        share = resample_volume(placement.mask, to_world, shape)
        mask = share >= 0.5
        if placement.kind == "prepared brain":
            # Its surroundings were set to 0: smoothing over the edge must not darken it.
            data = np.where(mask, data / np.maximum(share, np.float32(0.5)), np.float32(0))
        return data, mask


@dataclass
class Clock:
    """Seconds of named steps, in the order of their first start."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of the enclosed lines to a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@one_thread()
def locate_brain(
    volume: Volume, mask: Volume | None, settings: PreprocessingConfig, where: str, clock: Clock
) -> Located:
    """Recognise what a scan is, find its brain, and place it in MNI space.

    Raises
    ------
    PreparationError
        If nothing like a brain is found.
    """
    with clock.step("recognise"):
        if mask is not None:
            volume, foreground = _apply_mask(volume, mask, where)
        else:
            foreground = find_foreground(volume, where)
        in_mni = None
        if mask is not None or is_brain_extracted(foreground):
            in_mni = is_in_mni_space(coarsen(foreground, _FINEST_MM), settings.min_mask_overlap)
    if in_mni is None:
        return _register_head(volume, settings, where, clock)
    kind: Kind = "masked head" if mask is not None else "extracted brain"
    if not in_mni:
        return _register_extracted(foreground, kind, settings, clock)
    kind = kind if mask is not None else "mni brain"
    placement = Placement(kind, _as_volume(foreground.mask, foreground.volume), np.eye(4))
    return Located(placement, coarsen_volume(foreground.volume, _finest_mm(settings)))


def relocate_brain(
    volume: Volume, placement: Placement, settings: PreprocessingConfig, where: str
) -> Located:
    """Take a scan up again whose placement is known, as `locate_brain` leaves it.

    Raises
    ------
    PreparationError
        If the scan has no contrast.
    """
    if placement.kind == "raw head":
        volume = scale_brightness(volume, where)
    elif placement.kind == "masked head":
        volume = _apply_mask(volume, placement.mask, where)[1].volume
    elif placement.kind != "prepared brain":
        volume = find_foreground(volume, where).volume
    return Located(placement, coarsen_volume(volume, _finest_mm(settings)))


def _apply_mask(volume: Volume, mask: Volume, where: str) -> tuple[Volume, Foreground]:
    """Return volume with its darkest brain value outside the mask, and the foreground of that."""
    inside = resample_volume(mask, volume.affine, volume.data.shape) >= 0.5
    if not inside.any():
        problem = "the brain mask is empty where the scan is."
        raise PreparationError(where, problem, "Give the mask of this scan, in its space.")
    stripped = Volume(np.where(inside, volume.data, volume.data[inside].min()), volume.affine)
    return stripped, replace(find_foreground(stripped, where), mask=inside)


def _as_volume(mask: BoolArray, like: Volume) -> Volume:
    return Volume(mask.astype(np.float32), like.affine)


def _register_extracted(
    foreground: Foreground, kind: Kind, settings: PreprocessingConfig, clock: Clock
) -> Located:
    with clock.step("working grid"):
        mask = _as_volume(foreground.mask, foreground.volume)
        working = to_working_grid(foreground.volume, settings.working_spacing_mm)
        inside = resample_volume(mask, working.affine, working.data.shape) >= 0.5
    with clock.step("bias field"):
        bias = estimate_bias(working, settings, inside)
        head = Volume(working.data / bias.data, working.affine)
    with clock.step("registration"):
        _, alignment = register_candidates(head, [inside], settings)
        alignment = register_finely(head, inside, alignment)
    source = coarsen_volume(foreground.volume, _finest_mm(settings))
    return Located(Placement(kind, mask, alignment.to_mni, bias), source, alignment, head)


def _register_head(
    volume: Volume, settings: PreprocessingConfig, where: str, clock: Clock
) -> Located:
    """Find the brain twice: roughly, then with the bias field that the rough brain reveals."""
    with clock.step("working grid"):
        scaled = scale_brightness(volume, where)
        working = to_working_grid(scaled, settings.working_spacing_mm)
        working = crop_neck(working, settings.head_height_mm, where)
    with clock.step("bias field"):
        bias = estimate_bias(working, settings)
        head = Volume(working.data / bias.data, working.affine)
    with clock.step("brain mask"):
        candidates = find_brains(head, settings.erosions_mm)
    if not candidates:
        problem = f"nothing of {MIN_LITRES} to {MAX_LITRES} L in it looks like a brain."
        raise PreparationError(where, problem, "Give a T1-weighted head, or a brain mask.")
    with clock.step("registration"):
        best, rough = register_candidates(head, [found.mask for found in candidates], settings)
    with clock.step("bias field"):
        brain = _refine(candidates[best].mask, head, rough, settings)
        bias = estimate_bias(working, settings, brain.data > 0)
        head = Volume(working.data / bias.data, working.affine)
    with clock.step("brain mask"):
        again = find_brains(head, [candidates[best].erosion_mm])
    with clock.step("registration"):
        masks = [found.mask for found in (candidates[best], *again)]
        alignments = [register_finely(head, mask, rough) for mask in masks]
        mask, alignment = max(
            zip(masks, alignments, strict=True), key=lambda pair: pair[1].correlation
        )
    with clock.step("brain mask"):
        brain = _refine(mask, head, alignment, settings)
    source = coarsen_volume(scaled, _finest_mm(settings))
    return Located(Placement("raw head", brain, alignment.to_mni, bias), source, alignment, head)


def _finest_mm(settings: PreprocessingConfig) -> float:
    return min(_FINEST_MM, settings.spacing_mm / 2)


def _refine(
    candidate: BoolArray, head: Volume, alignment: Alignment, settings: PreprocessingConfig
) -> Volume:
    template = load_template(TISSUE_SPACING_MM)
    brain = Volume(template.mask.astype(np.float32), template.affine)
    to_template = alignment.to_mni @ head.affine
    template_mask = resample_volume(brain, to_template, head.data.shape) >= 0.5
    refined = refine_mask(candidate, template_mask, head.spacing_mm[0], settings.mask_slack_mm)
    return _as_volume(refined, head)
