"""Bounds of what a header may declare, at the last value that is good and the first that is not."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainage.errors import VolumeError
from brainage.scans.headers import MAX_EXTENSION_BYTES, parse_header
from brainage.scans.volume import MAX_FOOTER_BYTES, load_volume, scan_files

SIZES = [1, 2, 2, 2, 0, 0, 0, 0]


def header(**fields: object) -> bytes:
    """A NIfTI-1 header of 9 x 10 x 11 voxels of 2 mm whose fields were changed afterwards."""
    image = nib.Nifti1Image(np.zeros((9, 10, 11), np.float32), np.diag([2.0, 2, 2, 1]))
    image.set_qform(image.affine, 1)
    raw = np.frombuffer(image.to_bytes()[:348], nib.nifti1.header_dtype).copy()
    for name, value in fields.items():
        raw[name] = value
    return raw.tobytes()


def dims(*shape: int) -> list[int]:
    return [len(shape), *shape, *[1] * (7 - len(shape))]


def spaced(*sizes: float) -> dict[str, object]:
    rows = np.diag([*sizes, 1.0])
    return {f"srow_{axis}": rows[number] for number, axis in enumerate("xyz")}


@pytest.mark.parametrize(
    "fields",
    [
        {"dim": dims(8, 1024, 8)},
        {"dim": dims(1024, 1024, 128)},
        {"dim": dims(9, 10, 11, 1, 1)},
        spaced(0.2001, 10.0, 2),
        {"vox_offset": 352 + MAX_EXTENSION_BYTES},
        {"vox_offset": 0},
    ],
    ids=["sides", "voxels", "trailing ones", "spacing", "offset", "no offset"],
)
def test_the_last_good_value_is_read(fields: dict[str, object]) -> None:
    assert parse_header(header(**fields), "x").data_bytes > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": dims(8, 7, 8)}, "8 to 1024 voxels"),
        ({"dim": dims(8, 8, 1025)}, "8 to 1024 voxels"),
        ({"dim": dims(1024, 1024, 129)}, "at most 134217728 voxels, got 135266304"),
        (spaced(0.1999, 2, 2), r"0\.2 to 10 mm, got 0\.1999 x 2 x 2 mm"),
        (spaced(2, 10.01, 2), r"got 2 x 10\.01 x 2 mm"),
        ({"vox_offset": 351}, "start at byte 351"),
        ({"vox_offset": 352.5}, "start at byte 352.5"),
        ({"vox_offset": 354 + MAX_EXTENSION_BYTES}, "header is damaged"),
    ],
)
def test_the_first_bad_value_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        parse_header(header(**fields), "x")


def test_oblique_axes_are_read_until_they_are_nearly_parallel() -> None:
    for share, good in ((0.11, True), (0.09, False)):
        lean = 2 * np.sqrt(1 - share**2)
        fields = spaced(2, 2, 2) | {"srow_x": [2, lean, 0, 0], "srow_y": [0, 2 * share, 0, 0]}
        if good:
            assert parse_header(header(**fields), "x").shape == (9, 10, 11)
        else:
            with pytest.raises(VolumeError, match="cannot be inverted"):
                parse_header(header(**fields), "x")


def test_the_sform_counts_before_the_qform_and_both_before_spacing() -> None:
    both = parse_header(header(srow_x=[3, 0, 0, 5]), "x").affine
    assert both[0].tolist() == [3, 0, 0, 5] and both.dtype == np.float64
    q_only = parse_header(header(sform_code=0, srow_x=[3, 0, 0, 5], qoffset_x=7), "x").affine
    assert q_only[0].tolist() == [2, 0, 0, 7]
    none = parse_header(header(sform_code=0, qform_code=0, qoffset_x=7), "x").affine
    assert np.abs(np.diag(none)).tolist() == [2, 2, 2, 1] and none[0, 3] != 7


def test_a_qfac_of_minus_one_turns_the_third_axis() -> None:
    for qfac, third in ((-1, -2.0), (1, 2.0), (0, 2.0), (5, 2.0)):
        pixdim = [qfac, *SIZES[1:]]
        affine = parse_header(header(sform_code=0, pixdim=pixdim), "x").affine
        assert affine[2, 2] == third


def test_scaling_is_one_and_zero_where_none_is_declared() -> None:
    assert parse_header(header(scl_slope=np.nan, scl_inter=np.nan), "x").slope == 1.0
    plain = parse_header(header(scl_slope=0, scl_inter=9), "x")
    assert (plain.slope, plain.inter) == (1.0, 0.0)
    scaled = parse_header(header(scl_slope=0.5, scl_inter=-3), "x")
    assert (scaled.slope, scaled.inter, scaled.data_offset) == (0.5, -3.0, 352)


def test_an_mgh_header_tells_where_its_voxels_start_and_of_which_type_they_are() -> None:
    image = nib.freesurfer.MGHImage(np.zeros((9, 10, 11), np.int16), np.diag([2.0, 2, 2, 1]))
    head = bytearray(image.to_bytes()[:544])
    found = parse_header(bytes(head), "x")
    assert (found.data_offset, found.paired, found.slope, found.inter) == (284, False, 1, 0)
    assert found.dtype == np.dtype(">i2") and found.data_bytes == 1980
    head[20:24] = (9).to_bytes(4, "big")
    with pytest.raises(VolumeError, match="got data type code 9"):
        parse_header(bytes(head), "x")
    head[16:20] = (2).to_bytes(4, "big")
    with pytest.raises(VolumeError, match=r"got shape \(9, 10, 11, 2\)"):
        parse_header(bytes(head), "x")


def test_a_header_cut_short_is_no_header() -> None:
    with pytest.raises(VolumeError, match="is not a scan that can be read here"):
        parse_header(header()[:340], "x")
    image = nib.freesurfer.MGHImage(np.zeros((9, 10, 11), np.int16), np.eye(4))
    with pytest.raises(VolumeError, match="is not a scan that can be read here"):
        parse_header(image.to_bytes()[:283], "x")
    assert parse_header(image.to_bytes()[:284], "x").shape == (9, 10, 11)


def scan(values: np.ndarray, extension: int = 0) -> bytes:
    image = nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2, 2, 1]))
    if extension:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * extension))
    return image.to_bytes()


@pytest.mark.parametrize("extension", [0, 100, 5000])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_start_behind_extensions_of_any_length(
    tmp_path: Path, extension: int, name: str
) -> None:
    values = np.arange(990.0).reshape(9, 10, 11)
    content = scan(values, extension)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert np.array_equal(load_volume(tmp_path / name).data, values)


@pytest.mark.parametrize("packed", [False, True])
def test_a_footer_of_a_mebibyte_is_read_over(tmp_path: Path, packed: bool) -> None:
    values = np.arange(990.0).reshape(9, 10, 11)
    content = scan(values) + bytes(MAX_FOOTER_BYTES)
    (tmp_path / "a.nii").write_bytes(gzip.compress(content) if packed else content)
    assert np.array_equal(load_volume(tmp_path / "a.nii").data, values)


def test_nan_inside_is_background_only_where_nine_tenths_of_the_faces_are_nan(
    tmp_path: Path,
) -> None:
    values = np.full((10, 10, 10), np.nan)
    values[1:-1, 1:-1, 1:-1] = np.arange(512.0).reshape(8, 8, 8)
    values[5, 5, 5] = np.nan
    values[0, 2:8, 1:-1] = 1  # 48 of 600 on the faces
    (tmp_path / "a.nii").write_bytes(scan(values))
    assert load_volume(tmp_path / "a.nii").data[5, 5, 5] == 0
    values[-1, 2:8, 1:-1] = 1
    (tmp_path / "a.nii").write_bytes(scan(values))
    with pytest.raises(VolumeError, match="1 of 1000 voxels are not finite"):
        load_volume(tmp_path / "a.nii")


def test_a_shift_alone_is_applied_too(tmp_path: Path) -> None:
    content = bytearray(scan(np.arange(990.0).reshape(9, 10, 11)))
    content[112:120] = np.array([1, -3], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    assert load_volume(tmp_path / "a.nii").data[0, 0, 1] == -2


@pytest.mark.parametrize(
    ("named", "head", "image"),
    [
        ("a.HDR", "a.HDR", "a.IMG"),
        ("a.img.gz", "a.hdr.gz", "a.img.gz"),
        ("a.hdr", "a.hdr", "a.img"),
    ],
)
def test_a_pair_is_found_by_either_name(tmp_path: Path, named: str, head: str, image: str) -> None:
    for name in (head, image):
        (tmp_path / name).write_bytes(b"x")
    assert scan_files(tmp_path / named) == (tmp_path / head, tmp_path / image)


def test_a_missing_file_is_named_by_its_path_or_as_asked(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=rf"^{tmp_path}/no\.nii: there is no file"):
        scan_files(tmp_path / "no.nii")
    with pytest.raises(VolumeError, match=r"^sub-1: there is no file"):
        scan_files(tmp_path / "no.nii", "sub-1")
