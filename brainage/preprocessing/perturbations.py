"""Changes to a scan under which its predicted age should not move far.

Each is a function of an `Original`; to add one, write it and name it in `PERTURBATIONS`. Those of
the header leave every voxel as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brainage.errors import ConfigError, suggest
from brainage.types import BoolArray, DoubleArray, Volume

Input = Literal["whole head", "stripped brain"]
HEAD: Input = "whole head"
BRAIN: Input = "stripped brain"
UNCHANGED = "unchanged"
STRANGER = "stranger"

# Full width at half maximum of a Gaussian, in standard deviations.
_FWHM = float(np.sqrt(8 * np.log(2)))
_FREE = (np.inf, np.inf)
# Air that a scanner or a strip set to one value fills more of an image; noise has no such air.
_MIN_EMPTY_SHARE = 0.25
_SPACINGS_MM = ((1, 1, 1), (2, 2, 2), (1, 1, 3), (3, 1, 1), (1, 3, 1))


@dataclass(frozen=True)
class Original:
    """A scan before it is changed.

    Attributes
    ----------
    volume : Volume
        Voxels (I, J, K) and affine, RAS+.
    rng : numpy.random.Generator
        Draws what is random.
    find_brain : callable
        Returns the pipeline's brain mask on the volume's grid (I, J, K).
    """

    volume: Volume
    rng: Generator
    find_brain: Callable[[], BoolArray]

    @cached_property
    def brain(self) -> BoolArray:
        """Brain mask (I, J, K)."""
        return self.find_brain()

    @cached_property
    def background(self) -> float:
        """Most frequent value on the volume's six faces."""
        values, counts = np.unique(_faces(self.volume.data), return_counts=True)
        return float(values[counts.argmax()])

    @cached_property
    def outside(self) -> BoolArray:
        """Voxels (I, J, K) of the background's value that hang together with a face."""
        labels, _ = ndimage.label(self.volume.data == self.background)
        touching = np.unique(_faces(labels))
        return np.isin(labels, touching[touching > 0])

    def with_data(self, data: NDArray[Any]) -> Volume:
        """Return other voxels in the scan's place."""
        return Volume(data.astype(np.float32), self.volume.affine)

    def find_slices(self, axis: int) -> NDArray[np.int64]:
        """Find the slices (N,) along an axis that hold brain."""
        return np.flatnonzero(self.brain.any(tuple({0, 1, 2} - {axis})))

    def distance_mm(self, mask: BoolArray) -> DoubleArray:
        """Distance of every voxel (I, J, K) to a mask; 0 inside."""
        found: DoubleArray = ndimage.distance_transform_edt(~mask, self.volume.spacing_mm)
        return found


def _faces(data: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([data.take(end, axis).ravel() for axis in range(3) for end in (0, -1)])


Change = Callable[[Original], Volume]


def keep(scan: Original) -> Volume:
    """Return the scan as it is."""
    return scan.volume


def turn_header(scan: Original, rotation: DoubleArray) -> Volume:
    """Turn the head in its world about the volume's centre by a rotation (3, 3)."""
    affine = scan.volume.affine
    middle = affine[:3, :3] @ (np.asarray(scan.volume.data.shape) - 1) / 2 + affine[:3, 3]
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation, middle - rotation @ middle
    return Volume(scan.volume.data, motion @ affine)


def shift_header(scan: Original, axis: int, shift_mm: float) -> Volume:
    """Shift the head in its world."""
    affine = scan.volume.affine.copy()
    affine[axis, 3] += shift_mm
    return Volume(scan.volume.data, affine)


def store_otherwise(scan: Original, order: tuple[int, int, int]) -> Volume:
    """Store voxels and places as they are, axes in another order and the first one backwards."""
    data = scan.volume.data.transpose(order)[::-1]
    columns = np.eye(4)[:, [*order, 3]]
    columns[:, 3] += columns[:, 0] * (len(data) - 1)
    columns[:, 0] *= -1
    return Volume(np.ascontiguousarray(data), scan.volume.affine @ columns)


def resample(scan: Original, spacing_mm: tuple[float, float, float]) -> Volume:
    """Resample along the volume's own axes: smoothed against aliasing, then linear.

    The smoothing brings a voxel's point spread from the old to the new spacing (Cardoso et al.
    2015, doi:10.1007/978-3-319-24571-3_81). The first voxels' outer edges stay where they were.
    """
    ratio = np.asarray(spacing_mm) / scan.volume.spacing_mm
    sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / _FWHM
    fine = ndimage.gaussian_filter(scan.volume.data, sigma, mode="nearest")
    shape = tuple(np.ceil(fine.shape / ratio - 1e-6).astype(int).tolist())
    coarser = np.diag([*ratio, 1.0])
    coarser[:3, 3] = first = (ratio - 1) / 2
    data = ndimage.affine_transform(fine, ratio, first, shape, order=1, mode="nearest")
    return Volume(data, scan.volume.affine @ coarser)


def crop(scan: Original, i: Any = _FREE, j: Any = _FREE, k: Any = _FREE) -> Volume:
    """Keep so many mm before and behind the brain along each axis; below 0, brain is lost."""
    window = []
    for axis, (before_mm, behind_mm) in enumerate((i, j, k)):
        inside, size = scan.find_slices(axis), scan.volume.spacing_mm[axis]
        start = round(max(0, inside[0] - before_mm / size))
        last = round(min(scan.brain.shape[axis] - 1, inside[-1] + behind_mm / size))
        window.append(slice(start, last + 1))
    affine = scan.volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in window]
    return Volume(np.ascontiguousarray(scan.volume.data[tuple(window)]), affine)


def add_bias(scan: Original, strength: float) -> Volume:
    """Multiply by a random quadric between 1 − strength and 1 + strength."""
    steps = [np.linspace(-1, 1, side) for side in scan.volume.data.shape]
    x, y, z = np.meshgrid(*steps, indexing="ij", sparse=True)
    terms = (x, y, z, x * y, y * z, x * z, x**2, y**2, z**2)
    field = sum(share * term for share, term in zip(scan.rng.normal(size=9), terms, strict=True))
    field = 2 * (field - np.min(field)) / np.ptp(field) - 1
    return scan.with_data(scan.volume.data * (1 + strength * field))


def brighten_along(scan: Original, axis: int) -> Volume:
    """Multiply by a straight line from 0.3 at one end of an axis to 1.3 at the other."""
    line = np.linspace(0.3, 1.3, scan.volume.data.shape[axis])
    return scan.with_data(scan.volume.data * np.expand_dims(line, tuple({0, 1, 2} - {axis})))


def brighten_slices(scan: Original, axis: int, length_mm: float, factor: float) -> Volume:
    """Multiply slices from the brain's middle on, so many mm of them."""
    data = scan.volume.data.copy()
    np.moveaxis(data, axis, 0)[_from_middle(scan, axis, length_mm)] *= factor
    return scan.with_data(data)


def repeat_slice(scan: Original, axis: int, length_mm: float) -> Volume:
    """Write a slice in the brain's middle over those behind it, so many mm of them."""
    data = scan.volume.data.copy()
    slices = np.moveaxis(data, axis, 0)
    behind = _from_middle(scan, axis, length_mm)
    slices[behind] = slices[behind.start - 1]
    return scan.with_data(data)


def lose_slices(scan: Original, axis: int, length_mm: float) -> Volume:
    """Leave out slices from the brain's middle on, so many mm of them, as if none were lost."""
    return scan.with_data(np.delete(scan.volume.data, _from_middle(scan, axis, length_mm), axis))


def _from_middle(scan: Original, axis: int, length_mm: float) -> slice:
    """Find the slices that lie so many mm behind the brain's middle."""
    inside = scan.find_slices(axis)
    middle = int(inside[len(inside) // 2])
    slices = min(scan.brain.shape[axis], length_mm / scan.volume.spacing_mm[axis])
    return slice(middle, middle + max(1, round(slices)))


def add_noise(scan: Original, share: float) -> Volume:
    """Add Rician noise, its deviation a share of the brightness (95th percentile).

    Gudbjartsson & Patz 1995, doi:10.1002/mrm.1910340618. An empty background stays so.
    """
    data = scan.volume.data.astype(np.float64)
    real, imaginary = scan.rng.normal(0, share * np.percentile(data, 95), (2, *data.shape))
    is_empty = scan.outside & (scan.outside.mean() > _MIN_EMPTY_SHARE)
    return scan.with_data(np.where(is_empty, data, np.hypot(data + real, imaginary)))


def change_gamma(scan: Original, exponent: float) -> Volume:
    """Raise intensities, 0 at the darkest and 1 at the 99.9th percentile, to a power."""
    data = scan.volume.data.astype(np.float64)
    low, high = data.min(), np.percentile(data, 99.9)
    return scan.with_data(low + (high - low) * ((data - low) / (high - low)) ** exponent)


def scale(scan: Original, factor: float) -> Volume:
    """Multiply all intensities."""
    return scan.with_data(scan.volume.data * factor)


def smooth(scan: Original, fwhm_mm: float) -> Volume:
    """Smooth by a Gaussian of a full width at half maximum."""
    sigma = fwhm_mm / _FWHM / np.asarray(scan.volume.spacing_mm)
    return scan.with_data(ndimage.gaussian_filter(scan.volume.data, sigma, mode="nearest"))


def quantise(scan: Original, levels: int) -> Volume:
    """Round intensities to so many evenly spaced levels from 0 on."""
    data = scan.volume.data.astype(np.float64)
    return scan.with_data(np.round((data - data.min()) / np.ptp(data) * (levels - 1)))


def deface(scan: Original, margin_mm: float) -> Volume:
    """Empty what lies before and below the brain's middle, from a distance of the brain on."""
    _, j, k = ndimage.center_of_mass(scan.brain)
    face = scan.distance_mm(scan.brain) > margin_mm
    face[:, : round(j)] = face[:, :, round(k) :] = False
    return scan.with_data(np.where(face, scan.background, scan.volume.data))


def strip(scan: Original, grown_mm: float) -> Volume:
    """Set to 0 what lies outside the brain grown, or below 0 shrunken, by so many mm."""
    kept = scan.distance_mm(scan.brain) <= grown_mm
    if grown_mm < 0:
        kept = scan.distance_mm(~scan.brain) > -grown_mm
    return scan.with_data(np.where(kept, scan.volume.data, 0))


def fill_background(scan: Original, value: float) -> Volume:
    """Give the background another value."""
    return scan.with_data(np.where(scan.outside, value, scan.volume.data))


def standardise(scan: Original, outside: float | None = None) -> Volume:
    """Scale the brain to mean 0 and deviation 1; the background with it, or to a value."""
    inside = scan.volume.data[~scan.outside].astype(np.float64)
    scaled = (scan.volume.data - inside.mean()) / inside.std()
    return scan.with_data(scaled if outside is None else np.where(scan.outside, outside, scaled))


def meet_stranger(scan: Original) -> Volume:
    """Change a scan as a stranger might send it: by several of these at once, drawn at random.

    Stripped (3 mm too tightly to 2 mm too loosely), a gamma curve, a bias field, smoothed, noise,
    other voxels; each with a probability of 0.3 to 0.6.
    """
    rng = scan.rng
    brain, around = scan.brain, ~scan.outside & ~scan.brain
    loosest_mm = 0 if around.sum() < brain.sum() / 2 else 2  # there is nothing to strip from
    changes: tuple[tuple[float, Callable[[], Change]], ...] = (
        (0.6, lambda: partial(strip, grown_mm=rng.uniform(-3, loosest_mm))),
        (0.5, lambda: partial(change_gamma, exponent=float(np.exp(rng.uniform(-0.3, 0.3))))),
        (0.5, lambda: partial(add_bias, strength=rng.uniform(0.1, 0.4))),
        (0.3, lambda: partial(smooth, fwhm_mm=rng.uniform(1, 3))),
        (0.3, lambda: partial(add_noise, share=rng.uniform(0.01, 0.06))),
        (0.5, lambda: partial(resample, spacing_mm=_SPACINGS_MM[rng.integers(5)])),
    )
    for probability, draw in changes:
        if rng.random() < probability:
            scan = replace(scan, volume=draw()(scan), find_brain=lambda: brain)
    return scan.volume


@dataclass(frozen=True)
class Perturbation:
    """A change to a scan.

    Attributes
    ----------
    group, name : str
        Kind of change, and which one.
    apply : callable
        From the original to the changed scan.
    only : {"whole head", "stripped brain"}, optional
        What it is for; None: both.
    threads : int
        Threads that the process is offered which prepares the scan.
    """

    group: str
    name: str
    apply: Change
    only: Input | None = None
    threads: int = 1


_TURNS = {
    f"turn_{axis}_{angle}": Rotation.from_euler(axis, angle, degrees=True).as_matrix()
    for axis in "xyz"
    for angle in (-30, -15, 15, 30)
}
_FLIPS = {
    **{f"flip_{'xyz'[i]}": 2 * np.diag(np.eye(3)[i]) - np.eye(3) for i in range(3)},
    **{
        f"axes_{name}": np.eye(3)[order] for name, order in (("yzx", [1, 2, 0]), ("zxy", [2, 0, 1]))
    },
}
_EVERY: dict[str, dict[str, Change]] = {
    UNCHANGED: {UNCHANGED: keep},
    "turn": {name: partial(turn_header, rotation=turn) for name, turn in _TURNS.items()},
    "flip": {name: partial(turn_header, rotation=turn) for name, turn in _FLIPS.items()},
    "shift": {
        f"shift_{'xyz'[axis]}_{mm}": partial(shift_header, axis=axis, shift_mm=mm)
        for axis in range(3)
        for mm in (-20, 20)
    },
    "stored": {
        "stored_las": partial(store_otherwise, order=(0, 1, 2)),
        "stored_psr": partial(store_otherwise, order=(1, 2, 0)),
    },
    "resample": {
        f"resample_{'x'.join(map(str, mm))}": partial(resample, spacing_mm=mm)
        for mm in _SPACINGS_MM[:4]
    },
    "crop": {"crop_to_brain": partial(crop, i=(5, 5), j=(5, 5), k=(5, 5))},
    "cut": {
        "cut_top_10mm": partial(crop, k=(np.inf, -10)),
        "cut_bottom_15mm": partial(crop, k=(-15, np.inf)),
    },
    "bias": {f"bias_{s}": partial(add_bias, strength=s / 100) for s in (20, 40)},
    "ramp": {f"ramp_{'ijk'[a]}": partial(brighten_along, axis=a) for a in range(3)},
    "slices": {
        **{
            f"slices_{name}_{'ijk'[a]}": partial(
                brighten_slices, axis=a, length_mm=mm, factor=factor
            )
            for name, mm, factor in (("step", np.inf, 1.3), ("bright", 12, 1.5))
            for a in range(3)
        },
        "slices_repeated": partial(repeat_slice, axis=1, length_mm=8),
        "slices_lost": partial(lose_slices, axis=1, length_mm=10),
    },
    "noise": {f"noise_{s}": partial(add_noise, share=s / 100) for s in (3, 8)},
    "gamma": {f"gamma_{g}": partial(change_gamma, exponent=g) for g in (0.8, 1.25)},
    "scale": {f"scale_{f}": partial(scale, factor=f) for f in (0.001, 100)},
    "smooth": {"smooth_2mm": partial(smooth, fwhm_mm=2)},
    "strip": {"strip_-2mm": partial(strip, grown_mm=-2)},
    "quantise": {f"quantise_{n}bit": partial(quantise, levels=2**n) for n in (8, 15)},
    "stranger": {STRANGER: meet_stranger},
}
_OF_HEADS: dict[str, dict[str, Change]] = {
    "crop": {"crop_neck": partial(crop, k=(10, np.inf))},
    "deface": {"deface": partial(deface, margin_mm=10)},
    "strip": {f"strip_{mm}mm": partial(strip, grown_mm=mm) for mm in (0, 2)},
}
_OF_BRAINS: dict[str, dict[str, Change]] = {
    "background": {
        **{f"background_{v}": partial(fill_background, value=v) for v in (-1000, 255, np.nan)},
        "background_zscored": standardise,
        "background_0_zscored": partial(standardise, outside=0),
    }
}
PERTURBATIONS: tuple[Perturbation, ...] = (
    *(
        Perturbation(group, name, change, only)
        for only, groups in ((None, _EVERY), (HEAD, _OF_HEADS), (BRAIN, _OF_BRAINS))
        for group, changes in groups.items()
        for name, change in changes.items()
    ),
    *(Perturbation("threads", f"threads_{n}", keep, threads=n) for n in (2, 4)),
)
"""All perturbations; the first leaves the scan as it is."""

BY_NAME = {item.name: item for item in PERTURBATIONS}


def select_perturbations(only: Sequence[str] = ()) -> list[Perturbation]:
    """Select perturbations by names or groups; without any, all but the unchanged scan.

    Raises
    ------
    ConfigError
        If a name is unknown.
    """
    changes = PERTURBATIONS[1:]
    groups = dict.fromkeys(item.group for item in changes)
    for name in only:
        if name not in groups and name not in BY_NAME:
            remedy = f"{suggest(name, [*groups, *BY_NAME])}Groups: {', '.join(groups)}."
            raise ConfigError("--only", f"unknown perturbation {name!r}.", remedy)
    return [item for item in changes if not only or {item.group, item.name} & set(only)]
