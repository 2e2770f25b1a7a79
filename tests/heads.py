"""A whole head, small and synthetic: a phantom brain in fluid, skull, scalp and neck."""

import numpy as np
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.data.phantom import build_phantom
from brainage.types import Volume

# Coarse steps, so that a head takes a second; real heads use the defaults.
FAST = PreprocessingConfig(
    spacing_mm=6.0,
    shape=(28, 32, 28),
    working_spacing_mm=4.0,
    bias_spacing_mm=16.0,
    bias_iterations=10,
    erosions_mm=(3.0, 5.0, 7.0),
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
