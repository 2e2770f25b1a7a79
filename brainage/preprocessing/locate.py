"""Locate the brain and its pose: one route for each kind of scan."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.preprocessing.background import clear_background
from brainage.preprocessing.head import (
    correct_bias,
    estimate_bias,
    scale_brightness,
    to_straight_grid,
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
from brainage.preprocessing.pose import StraightScan, lay_straight, order_axes
from brainage.preprocessing.registration import (
    Alignment,
    displacement_mm,
    register_coarsely,
    register_finely,
)
from brainage.preprocessing.skull import find_brain_in_skull
from brainage.preprocessing.template import CHECK_SPACING_MM, TISSUE_SPACING_MM, load_template
from brainage.preprocessing.threads import one_thread
from brainage.types import BoolArray, DoubleArray, FloatArray, Volume

Kind = Literal["raw head", "masked head", "extracted brain", "mni brain", "prepared brain"]


# Half the finest spacing on which the quality gate measures: finer detail counts only on a grid
# that is finer still.
_FINEST_MM = TISSUE_SPACING_MM / 2
# How far a coarse registration may move a brain that its header puts into MNI space, on average:
# 1.6 to 11.0 mm in 45 OASIS-1 brains; a turn of 15° is 15 mm.
_MNI_SLACK_MM = 12.0
# A small head without neck or face has a brain's volume. Taken for one it correlates with the
# template by 0.85 to 0.95 after coarse registration, as a head by 0.95 to 0.98. Extracted brains
# have 0.89 to 0.97 as what they are, and as heads no more.
_BRAIN_CORRELATION, _HEAD_GAIN = 0.96, 0.02
# How far an extracted brain reaches beyond the template's outline: what lies farther out is neck or
# face that the strip left.
_REACH_MM = 10.0
# Share of brain from which a head's voxel takes part in its registration: half a mm beyond the
# outline, halfway between heads that were stripped at the outline and 2 mm beyond it.
_RIM_SHARE = 0.375
# Depth under the template's outline from which the bias field is estimated.
_BIAS_DEPTH_MM = 4.0


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
        Corrected scan on the working grid, laid straight; absent where there is no alignment.
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
            data = correct_bias(Volume(data, to_world), placement.bias).data
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
        volume = clear_background(volume)
        if mask is not None:
            volume, foreground = _apply_mask(volume, mask, where)
        else:
            foreground = find_foreground(volume, where)
        in_mni = None
        if mask is not None or is_brain_extracted(foreground):
            coarse = coarsen(foreground, _FINEST_MM)
            in_mni = is_in_mni_space(coarse, settings.min_mask_overlap) and _lies_in_mni(coarse)
    if in_mni:
        # The one route that believes the header, as far as the voxels do not contradict it.
        kind: Kind = "masked head" if mask is not None else "mni brain"
        placement = Placement(kind, _as_volume(foreground.mask, foreground.volume), np.eye(4))
        return Located(placement, coarsen_volume(foreground.volume, _finest_mm(settings)))
    with clock.step("pose"):
        known = None if in_mni is None else foreground.mask
        straight = lay_straight(volume, known, where)
        doubtful = known is not None and straight.start.correlation < _BRAIN_CORRELATION
        if mask is None and doubtful:
            straight = _prefer_head(straight, volume, where)
    stripped: Kind = "masked head" if mask is not None else "extracted brain"
    kind = "raw head" if straight.mask is None else stripped
    placed, alignment, head = _register(straight, kind, settings, where, clock)
    # Taken up as a known placement is, so that both give the same bits.
    placement = _move(placed, straight.to_scan)
    located = relocate_brain(volume, placement, settings, where)
    return replace(located, alignment=alignment, head=head)


def _prefer_head(brain: StraightScan, volume: Volume, where: str) -> StraightScan:
    """Lay a scan straight as a head, and keep that where it fits the template clearly better."""
    with suppress(PreparationError):
        head = lay_straight(volume, None, where)
        if head.start.correlation > brain.start.correlation + _HEAD_GAIN:
            return head
    return brain


def relocate_brain(
    volume: Volume, placement: Placement, settings: PreprocessingConfig, where: str
) -> Located:
    """Take a scan up again whose placement is known, as `locate_brain` leaves it.

    Raises
    ------
    PreparationError
        If the scan has no contrast.
    """
    volume = order_axes(clear_background(volume), placement.to_mni)
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


def _lies_in_mni(foreground: Foreground) -> bool:
    """Tell whether a coarse registration leaves a brain about where its header says it lies."""
    found = register_coarsely(foreground.volume, [foreground.mask])
    return displacement_mm(found.to_mni, np.eye(4)) <= _MNI_SLACK_MM


def _move(placement: Placement, move: DoubleArray) -> Placement:
    """Bring a placement to another world: ``move`` leads there from its own."""
    mask, bias = placement.mask, placement.bias
    return Placement(
        placement.kind,
        replace(mask, affine=move @ mask.affine),
        placement.to_mni @ np.linalg.inv(move),
        bias and replace(bias, affine=move @ bias.affine),
    )


def _as_volume(mask: BoolArray, like: Volume) -> Volume:
    return Volume(mask.astype(np.float32), like.affine)


def _register(
    straight: StraightScan, kind: Kind, settings: PreprocessingConfig, where: str, clock: Clock
) -> tuple[Placement, Alignment, Volume]:
    """Place a straight scan, and once more from there, its bias field removed."""
    start, given = straight.start, straight.mask
    with clock.step("working grid"):
        scaled = (
            scale_brightness(straight.volume, where)
            if given is None
            else find_foreground(straight.volume, where).volume
        )
        working = to_straight_grid(scaled, settings.working_spacing_mm)
    alignment, brain = _find_and_register(working, start, given, kind, clock)
    with clock.step("bias field"):
        head, bias = correct_inside(working, alignment, settings)
    alignment, brain = _find_and_register(head, alignment, given and brain, kind, clock)
    if given is None:
        with clock.step("brain mask"):
            brain = find_brain_in_skull(head, alignment.to_mni)
    return Placement(kind, brain, alignment.to_mni, bias), alignment, head


def _find_and_register(
    head: Volume, start: Alignment, given: Volume | None, kind: Kind, clock: Clock
) -> tuple[Alignment, Volume]:
    """Register a head by its brain, looked for unless given, and return that too."""
    with clock.step("brain mask"):
        brain = given or find_brain_in_skull(head, start.to_mni)
    with clock.step("registration"):
        content = mask_on(brain, head, 0.5 if given else _RIM_SHARE)
        alignment = register_finely(head, content, start)
        if kind == "extracted brain":
            # What was left beside the brain has pulled at it, and must not do so again.
            brain = _keep_near(brain, alignment.to_mni)
    return alignment, brain


def _keep_near(brain: Volume, to_mni: DoubleArray) -> Volume:
    """Leave out of a mask what lies far outside the template's brain."""
    template = load_template(CHECK_SPACING_MM)
    near = Volume(
        (template.distance_mm <= _REACH_MM).astype(np.float32),
        np.linalg.inv(to_mni) @ template.affine,
    )
    share = resample_volume(near, brain.affine, brain.data.shape)
    return Volume(np.where(share >= 0.5, brain.data, np.float32(0)), brain.affine)


def correct_inside(
    head: Volume, alignment: Alignment, settings: PreprocessingConfig
) -> tuple[Volume, Volume]:
    """Remove the bias field that the inside of the brain shows, and return both.

    The rim takes no part, so that a brain has one field however tightly it was stripped.
    """
    template = load_template(CHECK_SPACING_MM)
    inside = (template.distance_mm <= -_BIAS_DEPTH_MM).astype(np.float32)
    mask = Volume(inside, alignment.to_scan @ template.affine)
    bias = estimate_bias(head, mask, settings)
    return correct_bias(head, bias), bias


def mask_on(mask: Volume, like: Volume, share: float = 0.5) -> BoolArray:
    """Bring a mask onto the grid of another volume in the same world."""
    return resample_volume(mask, like.affine, like.data.shape) >= share


def _finest_mm(settings: PreprocessingConfig) -> float:
    return min(_FINEST_MM, settings.spacing_mm / 2)
