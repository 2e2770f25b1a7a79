"""The MNI152 template, prepared once and carried in the package.

The MNI ICBM152 nonlinear symmetric 2009a template (Fonov et al. 2011,
doi:10.1016/j.neuroimage.2010.07.033) with its brain mask and tissue maps, as nilearn carries it.
nilearn resamples it from 1 mm at each call, which takes ten seconds of processor for all that is
needed here; ``template.npz`` holds the results in eight bits, those of the source.
``python -m pipelines.release.template`` writes that file; a test makes it again.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from brainage.errors import StoreError
from brainage.types import BoolArray, DoubleArray, FloatArray

SPACINGS_MM = (8, 4, 2)
CHECK_SPACING_MM, TISSUE_SPACING_MM = 4, 2
# Eight bits hold shares and intensities from 0 to 1.
STEPS = 255
TEMPLATE_FILE = Path(__file__).with_name("template.npz")
TEMPLATE_SHA256 = "9ecb03da53cb02c74113e52933f8b5e70574dcf7f8edbb73bfcb0915edd39c5e"


@dataclass(frozen=True)
class Template:
    """The MNI152 template on a grid of its own.

    Attributes
    ----------
    intensity : numpy.ndarray of float32 (I, J, K)
        T1 contrast, 0 outside the brain.
    mask : numpy.ndarray of bool (I, J, K)
        Brain.
    affine : numpy.ndarray of float64 (4, 4)
        Voxel index to MNI coordinates in mm.
    """

    intensity: FloatArray
    mask: BoolArray
    affine: DoubleArray

    @cached_property
    def distance_mm(self) -> FloatArray:
        """Distance (I, J, K) from the brain's outline, negative inside."""
        from scipy import ndimage

        spacing_mm = abs(self.affine[0, 0])
        outside = ndimage.distance_transform_edt(~self.mask)
        inside = ndimage.distance_transform_edt(self.mask)
        return ((outside - inside) * spacing_mm).astype(np.float32)


@lru_cache(maxsize=len(SPACINGS_MM))
def load_template(spacing_mm: int = CHECK_SPACING_MM) -> Template:
    """Load template and brain mask at one of `SPACINGS_MM`."""
    stored = _load_file()
    return Template(
        _to_float(stored[f"intensity_{spacing_mm}"]),
        stored[f"mask_{spacing_mm}"],
        stored[f"affine_{spacing_mm}"],
    )


@lru_cache(maxsize=1)
def load_tissues() -> tuple[FloatArray, FloatArray]:
    """Load shares of white and of grey matter in the template's brain, at 2 mm (I, J, K) each."""
    brain = load_template(TISSUE_SPACING_MM).mask
    white, grey = load_shares()
    return np.where(brain, white, np.float32(0)), np.where(brain, grey, np.float32(0))


def load_shares() -> tuple[FloatArray, FloatArray]:
    """Load shares of white and of grey matter, also around the brain, at 2 mm (I, J, K) each."""
    stored = _load_file()
    return _to_float(stored["white"]), _to_float(stored["grey"])


@lru_cache(maxsize=1)
def _load_file() -> dict[str, np.ndarray]:
    content = TEMPLATE_FILE.read_bytes()
    if hashlib.sha256(content).hexdigest() != TEMPLATE_SHA256:
        raise StoreError(str(TEMPLATE_FILE), "is not the file of this version.", "Install again.")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return dict(stored)


def _to_float(stored: np.ndarray) -> FloatArray:
    return stored.astype(np.float32) / np.float32(STEPS)
