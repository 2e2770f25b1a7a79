"""Viewer for browsers without WebGL: nilearn's, drawn on a plain canvas."""

import gzip
import re

import nibabel as nib


def draw_fallback(image: bytes, overlay: bytes | None) -> str:
    """Page with three linked planes.

    Parameters
    ----------
    image, overlay : bytes
        NIfTI files, gzipped: the scan and, where there is one, its map.
    """
    from nilearn.plotting import view_img

    scan = _read(image)
    if overlay is None:
        view = view_img(scan, bg_img=None, cmap="gray", symmetric_cmap=False, colorbar=False)
    else:
        view = view_img(
            _read(overlay), bg_img=scan, cmap="RdBu_r", symmetric_cmap=True, opacity=0.6
        )
    # Its page names an icon on another host.
    return re.sub(r"<link[^>]*>", "", str(view.get_standalone()))


def _read(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))
