"""The built-in sample: one synthetic head for trying the commands and the page without a scan."""

import gzip
from pathlib import Path

from brainage.files import atomic_write_bytes, default_cache

SAMPLE = "sample"
SAMPLE_AGE_YEARS = 58.0
SAMPLE_WORDS = "this sample is computed and nobody's brain: its age shows how a page looks, no more"


def is_sample(name: str | Path) -> bool:
    """Tell whether a scan's name asks for the sample; a file or folder of that name comes first."""
    return str(name) == SAMPLE and not Path(SAMPLE).exists()


def place_sample(cache: Path | None = None) -> Path:
    """Write the sample once, and return its path.

    Parameters
    ----------
    cache : pathlib.Path, optional
        Folder below which it is kept; absent: the user's cache.
    """
    path = (cache or default_cache()) / "sample" / "sample.nii.gz"
    if not path.is_file():
        write_sample(path)
    return path


def write_sample(path: Path) -> None:
    """Write the sample, a phantom of 2 mm, as NIfTI.

    Raises
    ------
    BrainageError
        If the file cannot be written.
    """
    import nibabel as nib
    import numpy as np

    from brainage.cohorts.phantom import build_phantom

    shape_rng, scan_rng = np.random.default_rng(1), np.random.default_rng(2)
    volume = build_phantom(SAMPLE_AGE_YEARS, shape_rng, scan_rng, spacing_mm=2)
    image = nib.Nifti1Image(volume.data, volume.affine)
    atomic_write_bytes(path, gzip.compress(image.to_bytes(), 1, mtime=0))
