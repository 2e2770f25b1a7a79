"""Make the template file that the package carries, from nilearn's data.

``python -m pipelines.release.template`` writes ``brainage/preprocessing/template.npz`` and says its
SHA-256, which belongs into ``TEMPLATE_SHA256``.
"""

import io
import sys

import numpy as np
from nilearn.datasets import (
    load_mni152_brain_mask,
    load_mni152_gm_template,
    load_mni152_template,
    load_mni152_wm_template,
)

from brainage.files import atomic_write_bytes, sha256_bytes
from brainage.preprocessing.template import (
    SPACINGS_MM,
    STEPS,
    TEMPLATE_FILE,
    TISSUE_SPACING_MM,
)
from brainage.types import Json
from brainage.workflows.console import run_as_command, say


def main() -> None:
    """Build, write, and say the hash."""
    stream = io.BytesIO()
    arrays = build_tissues()
    for spacing_mm in SPACINGS_MM:
        arrays |= build_spacing(spacing_mm)
    np.savez_compressed(stream, **arrays)
    atomic_write_bytes(TEMPLATE_FILE, stream.getvalue())
    say(f"{len(stream.getvalue())} bytes, SHA-256 {sha256_bytes(stream.getvalue())}")


def build_spacing(spacing_mm: int) -> Json:
    """Arrays of one spacing: intensity in steps of 1/255, mask, affine."""
    image = load_mni152_template(resolution=spacing_mm)
    mask = load_mni152_brain_mask(resolution=spacing_mm)
    return {
        f"intensity_{spacing_mm}": _to_bytes(image.get_fdata()),
        f"mask_{spacing_mm}": np.asarray(mask.dataobj) > 0.5,
        f"affine_{spacing_mm}": np.asarray(image.affine, dtype=np.float64),
    }


def build_tissues() -> Json:
    """Shares of white and grey matter in steps of 1/255."""
    loaders = {"white": load_mni152_wm_template, "grey": load_mni152_gm_template}
    return {
        name: _to_bytes(load(resolution=TISSUE_SPACING_MM).get_fdata())
        for name, load in loaders.items()
    }


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.round(values.clip(0, 1) * STEPS).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(run_as_command(main))
