"""The safe reader behind MONAI's interface: ``LoadImage(reader=SafeNiftiReader())``."""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys

from brainage.scans.volume import load_volume
from brainage.types import FloatArray, Volume

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz", ".mgz", ".mgh")

AnyPath = str | PathLike[str]


class SafeNiftiReader(ImageReader):
    """Read one scan a call through `load_volume`; its metadata are affine and shape alone."""

    def verify_suffix(self, filename: Sequence[AnyPath] | AnyPath) -> bool:
        """Whether every name ends like a format that `load_volume` knows."""
        return all(fspath(name).lower().endswith(SUFFIXES) for name in _as_list(filename))

    def read(self, data: Sequence[AnyPath] | AnyPath, **kwargs: Any) -> list[Volume]:
        """Load the named scans.

        Raises
        ------
        VolumeError
            As `load_volume` does.
        """
        return [load_volume(fspath(name)) for name in _as_list(data)]

    def get_data(self, img: Sequence[Volume]) -> tuple[FloatArray, dict[str, Any]]:
        """Voxels and metadata of loaded scans.

        Returns
        -------
        data : numpy.ndarray of float32 (I, J, K), or (C, I, J, K) for C > 1 scans
        metadata : dict
            Affine, shape and space, under MONAI's keys.
        """
        first = img[0]
        several = len(img) > 1
        metadata = {
            MetaKeys.AFFINE: first.affine,
            MetaKeys.ORIGINAL_AFFINE: first.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(first.data.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0 if several else float("nan"),
        }
        return (np.stack([scan.data for scan in img]) if several else first.data), metadata


def _as_list(names: Sequence[AnyPath] | AnyPath) -> list[AnyPath]:
    return [names] if isinstance(names, str | PathLike) else list(names)
