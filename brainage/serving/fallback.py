"""Viewer for browsers without WebGL: nilearn's, drawn on a plain canvas."""

import gzip
import re
from typing import Any

import nibabel as nib


def draw_fallback(image: bytes, overlay: bytes | None, radiological: bool = True) -> str:
    """Page with three linked planes.

    Parameters
    ----------
    image, overlay : bytes
        NIfTI files, gzipped: the scan and, where there is one, its map.
    radiological : bool
        Whether the patient's left is on the right.
    """
    from nilearn.plotting import view_img

    scan = _read(image)
    if overlay is None:
        how: dict[str, Any] = {"cmap": "gray", "symmetric_cmap": False, "colorbar": False}
        view = view_img(scan, bg_img=None, radiological=radiological, **how)
    else:
        how = {"cmap": "RdBu_r", "symmetric_cmap": True, "opacity": 0.6}
        view = view_img(_read(overlay), bg_img=scan, radiological=radiological, **how)
    # Its page names an icon on another host.
    return re.sub(r"<link[^>]*>", "", str(view.get_standalone()))


def _read(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))
