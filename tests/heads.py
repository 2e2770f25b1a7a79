"""A whole head, small and synthetic: a phantom brain in fluid, skull, scalp and neck."""

from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage

from brainage.cohorts.phantom import build_phantom
from brainage.config import PreprocessingConfig
from brainage.types import Volume

# Coarse steps, so that a head takes a second; real heads use the defaults.
FAST = PreprocessingConfig(
    spacing_mm=6.0,
    shape=(28, 32, 28),
    working_spacing_mm=4.0,
    bias_spacing_mm=16.0,
    bias_iterations=10,
)
# World of the head as it lies in the scanner: pitched by 10°, and somewhere else than MNI's.
_PITCH = np.radians(10)
POSE = np.array(
    [
        [1.0, 0.0, 0.0, 12.0],
        [0.0, np.cos(_PITCH), -np.sin(_PITCH), -8.0],
        [0.0, np.sin(_PITCH), np.cos(_PITCH), 15.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def build_head(seed: int = 0, spacing_mm: int = 4) -> Volume:
    """Whole head (I, J, K) whose world is MNI's moved by `POSE`."""
    rng = np.random.default_rng(seed)
    brain = build_phantom(50, np.random.default_rng([seed, 1]), rng, spacing_mm=spacing_mm)
    pad = 40 // spacing_mm
    data = np.pad(brain.data, pad)
    affine = brain.affine.copy()
    affine[:3, 3] -= pad * spacing_mm
    distance_mm = ndimage.distance_transform_edt(data == 0) * spacing_mm
    white = np.percentile(data[data > 0], 90)
    # Fluid around the brain, bone, scalp; then a neck below the back of the head.
    shells = [(0, 5, 0.25), (5, 13, 0.06), (13, 22, 0.95)]
    head = data.copy()
    for inner, outer, share in shells:
        head[(distance_mm > inner) & (distance_mm <= outer)] = share * white
    grid = np.indices(data.shape)
    index = np.array([side / 2 for side in data.shape])
    neck = np.hypot(grid[0] - index[0], grid[1] - index[1]) * spacing_mm < 45
    neck &= (grid[2] < pad + 20 // spacing_mm) & (head == 0)
    head[neck] = 0.7 * white
    head += np.abs(rng.normal(0, 0.01 * white, head.shape)).astype(np.float32)
    return Volume(head.astype(np.float32), POSE @ affine)


def save_formats(head: Volume, folder: Path) -> list[Path]:
    """The head in other formats: float64, int16 with slope, big-endian, pair, NIfTI-2, MGZ."""
    whole = np.round(head.data / head.data.max() * 30000)
    kinds = {
        "double.nii": nib.Nifti1Image(whole, head.affine, dtype=np.float64),
        "big.nii": nib.Nifti1Image(whole, head.affine, nib.Nifti1Header(endianness=">")),
        "pair.img": nib.Nifti1Pair(whole.astype(np.float32), head.affine),
        "two.nii.gz": nib.Nifti2Image(whole.astype(np.int32), head.affine),
        "head.mgz": nib.MGHImage(whole.astype(np.float32), head.affine),
    }
    scaled = nib.Nifti1Image(whole * 0.37 + 5, head.affine)
    scaled.set_data_dtype(np.int16)
    kinds["slope.nii"] = scaled
    for name, image in kinds.items():
        nib.save(image, folder / name)
    return [folder / name for name in kinds]


def orientations() -> list[str]:
    pairs = ("LR", "PA", "IS")
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    return [
        "".join(pairs[axis][way] for axis, way in zip(order, ways, strict=True))
        for order in orders
        for ways in product((0, 1), repeat=3)
    ]


def save_turned(head: Volume, code: str, folder: Path) -> Path:
    """The head with its axes in another order, such as PSR."""
    image = nib.Nifti1Image(head.data, head.affine)
    turn = ornt_transform(io_orientation(head.affine), axcodes2ornt(tuple(code)))
    nib.save(image.as_reoriented(turn), folder / f"{code}.nii")
    return folder / f"{code}.nii"
