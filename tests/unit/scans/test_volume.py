"""What the safe reader accepts, what it refuses, and that nothing else can come out of it."""

import gzip
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainage.errors import VolumeError
from brainage.scans.volume import load_volume
from brainage.types import Volume

SHAPE = (9, 10, 11)
AFFINE = np.array([[2.0, 0, 0, -9], [0, 2, 0, -10], [0, 0, 2, -11], [0, 0, 0, 1]])


def make_data(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, SHAPE).astype(dtype)


def make_bytes(data: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> bytearray:
    image = nib.Nifti1Image(make_data() if data is None else data, affine)
    return bytearray(image.to_bytes())


def refused(path: Path, match: str) -> None:
    with pytest.raises(VolumeError, match=match) as caught:
        load_volume(path, "sub-014")
    assert str(caught.value).startswith("sub-014: ")
    assert "\n" not in str(caught.value)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make_image", "name"),
    [
        (nib.Nifti1Image, "a.nii"),
        (nib.Nifti1Image, "a.nii.gz"),
        (nib.Nifti2Image, "a.nii"),
        (nib.Nifti2Image, "a.nii.gz"),
        (nib.Nifti1Pair, "a.hdr"),
        (nib.Nifti1Pair, "a.img"),
        (nib.Nifti1Pair, "a.img.gz"),
        (nib.Nifti2Pair, "a.img"),
        (nib.freesurfer.MGHImage, "a.mgh"),
        (nib.freesurfer.MGHImage, "a.mgz"),
    ],
)
def test_every_format_gives_the_same_volume(
    tmp_path: Path, make_image: Callable[..., nib.spatialimages.SpatialImage], name: str
) -> None:
    nib.save(make_image(make_data(), AFFINE), tmp_path / name)
    volume = load_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.data, make_data())
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert volume.data.dtype == np.float32
    assert volume.data.flags.c_contiguous


def test_an_analyze_pair_is_read_left_to_right(tmp_path: Path) -> None:
    image = nib.Spm99AnalyzeImage(make_data("int16"), np.diag([-2.0, 2, 2, 1]))
    nib.save(image, tmp_path / "a.img")
    np.testing.assert_array_equal(load_volume(tmp_path / "a.hdr").data, make_data()[::-1])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float64", ">i2", ">f4"])
def test_every_real_type_and_byte_order_is_read(tmp_path: Path, dtype: str) -> None:
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(make_data(dtype), AFFINE, header), tmp_path / "a.nii")
    np.testing.assert_array_equal(load_volume(tmp_path / "a.nii").data, make_data())


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    content = make_bytes(make_data("int16"))
    struct.pack_into("<2f", content, 112, 0.5, -3.0)
    volume = load_volume(write(tmp_path / "a.nii", content))
    np.testing.assert_allclose(volume.data, make_data() * 0.5 - 3)


def test_any_orientation_is_turned_to_ras(tmp_path: Path) -> None:
    image = nib.Nifti1Image(make_data(), AFFINE)
    code = nib.orientations.axcodes2ornt("PIL")
    nib.save(image.as_reoriented(code), tmp_path / "a.nii")
    volume = load_volume(tmp_path / "a.nii")
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    np.testing.assert_array_equal(volume.data, nib.as_closest_canonical(image).get_fdata())


def test_a_single_trailing_volume_is_3d(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", make_bytes(make_data()[..., None]))
    assert load_volume(path).data.shape == SHAPE


def test_a_series_is_refused_with_its_shape(tmp_path: Path) -> None:
    content = make_bytes(np.zeros((9, 10, 11, 20), np.uint8))
    refused(write(tmp_path / "a.nii", content), r"shape \(9, 10, 11, 20\)\. Extract one volume")


def test_a_slice_is_refused(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.nii", make_bytes(make_data()[..., :1])), "8 to 1024 voxels")


@pytest.mark.parametrize("dtype", ["complex64", nib.nifti1.data_type_codes.dtype["RGB"]])
def test_complex_and_colour_are_refused(tmp_path: Path, dtype: object) -> None:
    content = make_bytes(np.zeros(SHAPE, dtype))
    refused(write(tmp_path / "a.nii", content), "expected one real number a voxel, got")


@pytest.mark.parametrize(
    ("value", "match"), [(np.nan, "1 of 990 voxels are not finite"), (np.inf, "not finite")]
)
def test_a_single_bad_voxel_is_counted(tmp_path: Path, value: float, match: str) -> None:
    data = make_data()
    data[4, 5, 5] = value
    refused(write(tmp_path / "a.nii", make_bytes(data)), match)


def test_a_constant_image_is_refused(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.nii", make_bytes(np.full(SHAPE, 3, "f4"))), "every voxel is 3")


@pytest.mark.parametrize(
    ("column", "match"),
    [((0, 0, 0), "expected voxels of"), ((0, 2, 0.0), "inverted"), ((np.nan, 0, 0), "not finite")],
)
def test_a_senseless_affine_is_refused(tmp_path: Path, column: tuple, match: str) -> None:
    content = make_bytes()
    struct.pack_into("<h", content, 254, 2)
    for row, value in enumerate(column):
        struct.pack_into("<f", content, 280 + 16 * row, value)
    refused(write(tmp_path / "a.nii", content), match)


def test_metres_instead_of_millimetres_are_refused(tmp_path: Path) -> None:
    content = make_bytes(affine=np.diag([0.002, 0.002, 0.002, 1]))
    refused(write(tmp_path / "a.nii", content), "0.002 x 0.002 x 0.002 mm")


def test_missing_empty_folder_pipe_and_foreign_files_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "no.nii", "there is no file no.nii")
    refused(write(tmp_path / "empty.nii", b""), "empty")
    refused(tmp_path, "is a folder")
    refused(Path(f"{tmp_path}/a\0b.nii"), "cannot be opened")
    refused(write(tmp_path / "text.nii", b"age,sex\n" * 200), "text file")
    refused(write(tmp_path / "a.dcm", b"\0" * 128 + b"DICM" + b"\0" * 400), "DICOM")
    os.mkfifo(tmp_path / "pipe.nii")
    refused(tmp_path / "pipe.nii", "not a regular file")


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(make_data(), AFFINE), tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    refused(tmp_path / "a.hdr", "there is no file a.img")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_file_shorter_than_declared_is_refused(tmp_path: Path, name: str) -> None:
    content = bytes(make_bytes())[:-100]
    packed = gzip.compress(content) if name.endswith(".gz") else content
    refused(write(tmp_path / name, packed), "declares|ends after")


def test_a_damaged_gzip_stream_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(bytes(make_bytes())))
    refused(write(tmp_path / "short.nii.gz", packed[:-20]), "gzip stream is damaged")
    packed[-6] ^= 1
    refused(write(tmp_path / "checksum.nii.gz", packed), "gzip stream is damaged.*CRC")


def test_eight_declared_gigabytes_are_refused_from_the_header(tmp_path: Path) -> None:
    content = make_bytes()
    struct.pack_into("<4h", content, 40, 3, 512, 512, 512)
    path = write(tmp_path / "a.nii.gz", gzip.compress(bytes(content)))
    refused(path, "declares 536871264 bytes of data, the file has [0-9]+ compressed bytes")
    struct.pack_into("<4h", content, 40, 3, 1024, 1024, 1024)
    refused(write(path, gzip.compress(bytes(content))), "at most 134217728 voxels")


def test_a_bomb_behind_an_honest_header_costs_no_memory(tmp_path: Path) -> None:
    members = gzip.compress(bytes(make_bytes())) + gzip.compress(bytes(2**28), compresslevel=9)
    path = write(tmp_path / "a.nii.gz", members)
    tracemalloc.start()
    refused(path, "far more than the 3960 bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_no_header_text_survives(tmp_path: Path) -> None:
    image = nib.Nifti1Image(make_data(), AFFINE)
    image.header["descrip"] = b"Jane Doe"
    nib.save(image, tmp_path / "a.nii")
    volume = load_volume(tmp_path / "a.nii")
    assert type(volume) is Volume
    assert vars(volume).keys() == {"data", "affine"}


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """Flip a few bytes, most of them in the header, and perhaps cut the end off."""
    broken = bytearray(content)
    places = st.one_of(st.integers(0, 543), st.integers(0, len(content) - 1))
    for place in draw(st.lists(places, max_size=6)):
        broken[place % len(broken)] = draw(st.integers(0, 255))
    return bytes(broken[: draw(st.one_of(st.none(), st.integers(0, len(broken))))])


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image, nib.freesurfer.MGHImage])
@given(choices=st.data(), packing=st.sampled_from(["none", "before", "after"]))
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_damage_gives_a_volume_or_a_volume_error(
    tmp_path: Path, kind: Callable[..., nib.Nifti1Image], choices: st.DataObject, packing: str
) -> None:
    content = kind(make_data(), AFFINE).to_bytes()
    packed = gzip.compress(content, 1) if packing == "before" else content
    broken = choices.draw(damage(packed))
    path = write(tmp_path / "a.nii", gzip.compress(broken, 1) if packing == "after" else broken)
    try:
        volume = load_volume(path)
    except VolumeError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(volume.data).all()
        assert volume.data.nbytes <= 1032 * 4 * len(packed)


def test_real_scans_equal_nibabels_reading(data_root: Path) -> None:
    path = data_root / "oasis1" / "t1" / "OAS1_0004_MR1.nii.gz"
    expected = nib.as_closest_canonical(nib.load(path))
    volume = load_volume(path)
    np.testing.assert_allclose(volume.data, expected.get_fdata(dtype=np.float32), rtol=1e-6)
    np.testing.assert_array_equal(volume.affine, expected.affine)


def edited(
    folder: Path, edit: Callable[[np.ndarray], None], data: np.ndarray | None = None
) -> Path:
    """A NIfTI file with both forms, whose header was changed afterwards."""
    affine = np.diag([-2.0, 2, 2, 1])
    values = np.arange(4000.0).reshape(20, 20, 10) if data is None else data
    image = nib.Nifti1Image(values.astype(np.float32), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nib.save(image, folder / "scan.nii")
    content = bytearray((folder / "scan.nii").read_bytes())
    header = np.frombuffer(content[:348], nib.nifti1.header_dtype).copy()
    edit(header)
    content[:348] = header.tobytes()
    (folder / "scan.nii").write_bytes(content)
    return folder / "scan.nii"


def set_fields(**fields: object) -> Callable[[np.ndarray], None]:
    def edit(header: np.ndarray) -> None:
        for name, value in fields.items():
            header[name] = value

    return edit


@pytest.mark.parametrize(
    "fields",
    [
        {"srow_x": 0, "srow_y": 0, "srow_z": 0},
        {"srow_x": np.nan},
        {"sform_code": 0, "pixdim": [0, 2, 2, 2, 0, 0, 0, 0]},
        {"sform_code": 0, "pixdim": [-1, 2, -2, 2, 0, 0, 0, 0]},
        {"pixdim": 0},
    ],
)
def test_a_header_with_one_usable_form_is_read(tmp_path: Path, fields: dict[str, object]) -> None:
    volume = load_volume(edited(tmp_path, set_fields(**fields)))
    assert volume.spacing_mm == (2.0, 2.0, 2.0)


def test_nan_around_the_brain_is_background(tmp_path: Path) -> None:
    data = np.full((20, 20, 10), np.nan)
    data[5:15, 5:15, 3:7] = np.arange(400).reshape(10, 10, 4)
    volume = load_volume(edited(tmp_path, set_fields(), data))
    assert np.isfinite(volume.data).all() and (volume.data == 0).sum() == 4000 - 399


def test_nan_inside_is_damage(tmp_path: Path) -> None:
    data = np.ones((20, 20, 10))
    data[5:15, 5:15, 3:7] = np.nan
    with pytest.raises(VolumeError, match="400 of 4000 voxels are not finite"):
        load_volume(edited(tmp_path, set_fields(), data))
