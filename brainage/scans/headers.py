"""What a scan's header declares, read from its first bytes and checked before any voxel is.

Only numbers leave this module: names, dates and free text that headers may carry are dropped.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import data_type_codes
from nibabel.spatialimages import HeaderDataError

from brainage.errors import VolumeError
from brainage.scans.unknown import describe_unknown
from brainage.types import DoubleArray

HEADER_BYTES = 544
MIN_SIDE, MAX_SIDE = 8, 1024
# 512 x 512 x 512: half-millimetre whole heads fit; float32 voxels take 512 MiB, and the raw bytes
# beside them at most 1 GiB, so that reading one scan never needs more than about 2 GiB.
MAX_VOXELS = 2**27
MIN_SPACING_MM, MAX_SPACING_MM = 0.2, 10.0
MAX_EXTENSION_BYTES = 2**24
# |det| over the product of spacings is 1 for right angles; below this, axes are nearly parallel.
MIN_ORTHOGONALITY = 0.1
# Sizes of the sform's voxels and pixdim that differ by more contradict each other.
SIZE_TOLERANCE = 0.05
# Rounding to float32 can make a quaternion longer than 1; its squared excess stays below this.
MAX_QUATERNION_EXCESS = 1e-4
_SCANNER_CODE = 1

REAL_TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


@dataclass(frozen=True)
class ScanHeader:
    """The part of a header that is needed to find and scale the voxels.

    Attributes
    ----------
    shape : tuple of int (3,)
        Voxels along each stored axis.
    dtype : numpy.dtype
        Stored type with its byte order.
    slope, inter : float
        Intensity = stored value * slope + inter.
    data_offset : int
        Bytes before the first voxel in the file that holds the voxels.
    affine : numpy.ndarray of float64 (4, 4)
        Stored voxel index to world coordinates in mm.
    paired : bool
        Whether the voxels lie in a separate .img file.
    note : str
        Which of two contradicting declarations was taken; empty where none contradict.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    slope: float
    inter: float
    data_offset: int
    affine: DoubleArray
    paired: bool
    note: str = ""

    @property
    def data_bytes(self) -> int:
        """Bytes that the voxels take as stored."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_header(head: bytes, where: str) -> ScanHeader:
    """Recognise the format by its magic bytes and check what the header declares.

    Parameters
    ----------
    head : bytes
        First `HEADER_BYTES` of the (inflated) file, fewer if it is shorter.
    where : str
        Scan named in errors.

    Raises
    ------
    VolumeError
        If the bytes are no NIfTI-1/2, Analyze or MGH header, or declare anything but a real 3-D
        volume of sensible size with an invertible affine.
    """
    reader = _recognise(head)
    if reader is None:
        raise VolumeError(where, *describe_unknown(head))
    try:
        with np.errstate(all="ignore"):
            header = reader(head, where)
    except VolumeError:
        raise
    except Exception as error:
        # nibabel raises many kinds on damaged headers; whatever it is, the file is unusable.
        problem = (
            f"the header is damaged ({str(error).splitlines()[0] if str(error) else error!r})."
        )
        raise VolumeError(where, problem, "Convert the scan again from its source.") from error
    _check_affine(header.affine, where)
    return header


def is_header(head: bytes) -> bool:
    """Whether bytes begin like a header of a known format."""
    return _recognise(head) is not None


def _recognise(head: bytes) -> Callable[[bytes, str], ScanHeader] | None:
    if head[344:348] in (b"n+1\0", b"ni1\0") and _starts_with_size(head, 348):
        return _read_nifti1
    if head[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n") and _starts_with_size(head, 540):
        return _read_nifti2
    if len(head) >= 348 and _starts_with_size(head, 348):
        return _read_analyze
    if len(head) >= 284 and head[:4] == b"\0\0\0\1":
        return _read_mgh
    return None


def _starts_with_size(head: bytes, size: int) -> bool:
    return head[:4] in (size.to_bytes(4, "little"), size.to_bytes(4, "big"))


def _read_nifti1(head: bytes, where: str) -> ScanHeader:
    paired = head[344:348] == b"ni1\0"
    header = (nib.nifti1.Nifti1PairHeader if paired else nib.Nifti1Header)(head[:348], check=False)
    return _from_nifti_like(header, paired, 0 if paired else 352, where)


def _read_nifti2(head: bytes, where: str) -> ScanHeader:
    paired = head[4:7] == b"ni2"
    header = (nib.nifti2.Nifti2PairHeader if paired else nib.Nifti2Header)(head[:540], check=False)
    return _from_nifti_like(header, paired, 0 if paired else 544, where)


def _read_analyze(head: bytes, where: str) -> ScanHeader:
    header = nib.spm2analyze.Spm2AnalyzeHeader(head[:348], check=False)
    return _from_nifti_like(header, True, 0, where)


def _from_nifti_like(header: Any, paired: bool, first_byte: int, where: str) -> ScanHeader:
    shape = _check_shape(header.get_data_shape(), where)
    code = int(header["datatype"])
    label = data_type_codes.label[code] if code in data_type_codes.keys() else f"code {code}"  # noqa: SIM118
    dtype = header.get_data_dtype() if code in data_type_codes.keys() else None  # noqa: SIM118
    slope, inter = header.get_slope_inter()
    affine, note = _find_affine(header)
    return ScanHeader(
        shape=shape,
        dtype=_check_dtype(dtype, label, where),
        slope=1.0 if slope is None else float(slope),
        inter=0.0 if inter is None else float(inter),
        data_offset=_check_offset(float(header["vox_offset"]), first_byte, where),
        affine=affine,
        paired=paired,
        note=note,
    )


def _find_affine(header: Any) -> tuple[DoubleArray, str]:
    """Sform, else qform, else spacing alone: the first that is declared and can be used.

    A stored qfac of 0 means 1 (nifti1.h), and the sign of a spacing means nothing beside a qform.
    An sform whose voxels have another size than pixdim gives way to the qform where it is the
    identity, which programs write that know no better, or claims scanner coordinates.
    """
    if "qform_code" not in header.keys():  # noqa: SIM118 (Analyze)
        return np.array(header.get_best_affine(), dtype=np.float64), ""
    sizes = header["pixdim"]
    if abs(sizes[0]) != 1:
        sizes[0] = 1
    sform = header.get_sform() if header["sform_code"] > 0 else None
    usable_sform = sform is not None and _is_usable(sform)
    qform = None
    if header["qform_code"] > 0:
        sizes[1:4] = np.abs(sizes[1:4])
        qform = _read_qform(header, usable_sform)
    if usable_sform:
        affine, note = _settle_sizes(header, np.array(sform, dtype=np.float64), qform)
        return affine, note or _note_sides(affine, qform)
    known = [affine for affine in (qform, sform) if affine is not None]
    usable = [affine for affine in known if _is_usable(affine)]
    best = (usable or known or [header.get_base_affine()])[0]
    return np.array(best, dtype=np.float64), ""


def _read_qform(header: Any, is_spare: bool) -> DoubleArray | None:
    """Qform; None where it is damaged and the sform can stand in for it."""
    header.quaternion_threshold = -MAX_QUATERNION_EXCESS
    try:
        return np.array(header.get_qform(), dtype=np.float64)
    except (ValueError, HeaderDataError):
        if is_spare:
            return None
        raise


def _settle_sizes(
    header: Any, sform: DoubleArray, qform: DoubleArray | None
) -> tuple[DoubleArray, str]:
    """Return the affine to take of a usable sform and pixdim, and what was contradictory."""
    declared = np.abs(np.array(header["pixdim"][1:4], dtype=np.float64))
    sizes = np.linalg.norm(sform[:3, :3], axis=0)
    if not np.isfinite(declared).all() or (declared == 0).any():
        return sform, ""
    if (np.abs(sizes / declared - 1) <= SIZE_TOLERANCE).all():
        return sform, ""
    told = f"the sform says voxels of {_join(sizes)} mm, pixdim says {_join(declared)} mm"
    is_identity = np.array_equal(np.abs(sform[:3, :3]), np.eye(3))
    is_doubtful = is_identity or int(header["sform_code"]) == _SCANNER_CODE
    if is_doubtful and qform is not None and _is_usable(qform):
        return qform, f"{told}: the qform was taken"
    if is_identity:
        scaled = sform.copy()
        scaled[:3, :3] *= declared
        return scaled, f"{told}: pixdim was taken"
    return sform, f"{told}: the sform was taken"


def _note_sides(sform: DoubleArray, qform: DoubleArray | None) -> str:
    if qform is None or np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) >= 0:
        return ""
    return "sform and qform disagree on left and right: the sform was taken"


def _join(sizes: DoubleArray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)


def _is_usable(affine: DoubleArray) -> bool:
    return bool(np.isfinite(affine).all() and np.linalg.det(affine[:3, :3]) != 0)


def _read_mgh(head: bytes, where: str) -> ScanHeader:
    header = nib.freesurfer.mghformat.MGHHeader(head[:284], check=False)
    # The raw dimensions count frames too, which the stored shape of a 3-D image leaves out.
    shape = _check_shape(tuple(int(side) for side in header["dims"]), where)
    code = int(header["type"])
    known = code in nib.freesurfer.mghformat.data_type_codes.code
    dtype = header.get_data_dtype() if known else None
    return ScanHeader(
        shape=shape,
        dtype=_check_dtype(dtype, f"code {code}", where),
        slope=1.0,
        inter=0.0,
        data_offset=284,
        affine=np.array(header.get_affine(), dtype=np.float64),
        paired=False,
    )


def _check_shape(declared: tuple[int, ...], where: str) -> tuple[int, int, int]:
    shape = tuple(int(side) for side in declared)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        remedy = "Extract one volume first." if len(shape) > 3 else "Give a whole scan."
        raise VolumeError(where, f"expected a 3-D volume, got shape {shape}.", remedy)
    if min(shape) < MIN_SIDE or max(shape) > MAX_SIDE:
        rule = f"expected {MIN_SIDE} to {MAX_SIDE} voxels along each axis, got shape {shape}."
        raise VolumeError(where, rule, "Give a whole scan.")
    if math.prod(shape) > MAX_VOXELS:
        rule = f"expected at most {MAX_VOXELS} voxels, got {math.prod(shape)} with shape {shape}."
        raise VolumeError(where, rule, "Resample it to 1 mm first.")
    return shape


def _check_dtype(dtype: np.dtype[Any] | None, label: str, where: str) -> np.dtype[Any]:
    if dtype is None or dtype.str[1:] not in REAL_TYPES:
        problem = f"expected one real number a voxel, got data type {label}."
        raise VolumeError(where, problem, "Convert it to a real-valued image first.")
    return dtype


def _check_offset(offset: float, first_byte: int, where: str) -> int:
    if offset == 0:
        return first_byte
    if not first_byte <= offset <= first_byte + MAX_EXTENSION_BYTES or offset != int(offset):
        problem = f"the header is damaged (voxels said to start at byte {offset:g})."
        raise VolumeError(where, problem, "Convert the scan again from its source.")
    return int(offset)


def _check_affine(affine: DoubleArray, where: str) -> None:
    remedy = "Convert the scan again, keeping its orientation."
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise VolumeError(where, "the affine is not finite.", remedy)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if spacing.min() < MIN_SPACING_MM or spacing.max() > MAX_SPACING_MM:
        got = _join(spacing)
        rule = f"expected voxels of {MIN_SPACING_MM} to {MAX_SPACING_MM:g} mm, got {got} mm."
        raise VolumeError(where, rule, "Check the unit of the header's spacing.")
    if abs(np.linalg.det(affine[:3, :3])) < MIN_ORTHOGONALITY * spacing.prod():
        raise VolumeError(where, "the affine cannot be inverted.", remedy)
