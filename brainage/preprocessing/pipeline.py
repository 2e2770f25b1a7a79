"""Bring any readable volume to a brain in MNI space, with a verdict."""

from dataclasses import dataclass, field

import numpy as np

from brainage.config import PreprocessingConfig
from brainage.preprocessing.locate import (
    Clock,
    Kind,
    Located,
    Placement,
    locate_brain,
    relocate_brain,
)
from brainage.preprocessing.mni import grid_affine
from brainage.preprocessing.quality import measure
from brainage.preprocessing.values import check_values
from brainage.preprocessing.verdict import judge
from brainage.types import BoolArray, DoubleArray, Verdict, Volume

Judgement = tuple[Verdict, tuple[str, ...]]


@dataclass(frozen=True)
class Processed:
    """A scan on its way to the network, and what is to be thought of it.

    Attributes
    ----------
    image : Volume
        Intensities (I, J, K) on the settings' grid in MNI space, bias field removed, not
        normalised; of a whole head with all that surrounds the brain.
    mask : numpy.ndarray of bool (I, J, K)
        Brain on that grid.
    placement : Placement
        What the scan was taken for, and where its brain lies.
    measures : dict of str to float
        Named values of the quality gate.
    verdict : {"ok", "flagged", "failed"}
        A `failed` scan must not be predicted.
    reasons : tuple of str
        One clause for each limit that was broken.
    seconds : dict of str to float
        Time of each step.
    """

    image: Volume
    mask: BoolArray
    placement: Placement
    measures: dict[str, float]
    verdict: Verdict
    reasons: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def recognised(self) -> Kind:
        """What the scan was taken for."""
        return self.placement.kind

    @property
    def transform(self) -> DoubleArray:
        """The scan's world coordinates to MNI coordinates, both in mm (4, 4)."""
        return self.placement.to_mni

    @property
    def brain(self) -> Volume:
        """The image with 0 outside the brain."""
        return Volume(np.where(self.mask, self.image.data, np.float32(0)), self.image.affine)


def process_volume(
    volume: Volume, settings: PreprocessingConfig, where: str, *, mask: Volume | None = None
) -> Processed:
    """Bring a scan onto the settings' grid in MNI space by the route that suits it, and judge it.

    Parameters
    ----------
    volume : Volume
        Scan (I, J, K), RAS+: whole head or extracted brain.
    where : str
        Scan named in errors.
    mask : Volume, optional
        Brain mask in the same world, not necessarily on the same grid; takes the place of ours.

    Raises
    ------
    PreparationError
        If the values are not those of an MR image (`values.check_values`), or no brain is found
        at all. A brain that is found but not trusted is not an error: its verdict is `flagged`
        or `failed`.
    """
    check_values(volume, where)
    clock = Clock()
    located = locate_brain(volume, mask, settings, where, clock)
    with clock.step("quality"):
        measures = measure(located, volume)
    return _finish(located, measures, settings, clock)


def process_again(
    volume: Volume,
    placement: Placement,
    measures: dict[str, float],
    settings: PreprocessingConfig,
    where: str,
    judged: Judgement | None = None,
) -> Processed:
    """Finish a scan whose placement and measures are known, to the bits of `process_volume`.

    Parameters
    ----------
    judged : tuple of verdict and reasons, optional
        What was said of the scan; without it, the measures are judged again.

    Raises
    ------
    PreparationError
        If the scan has no contrast.
    """
    located = relocate_brain(volume, placement, settings, where)
    return _finish(located, measures, settings, Clock(), judged)


def _finish(
    located: Located,
    measures: dict[str, float],
    settings: PreprocessingConfig,
    clock: Clock,
    judged: Judgement | None = None,
) -> Processed:
    affine = grid_affine(settings)
    with clock.step("resample"):
        data, brain = located.sample(affine, settings.shape)
    verdict, reasons = judged or judge(measures, located.placement.kind, settings)
    image = Volume(data, affine)
    return Processed(image, brain, located.placement, measures, verdict, reasons, clock.seconds)
