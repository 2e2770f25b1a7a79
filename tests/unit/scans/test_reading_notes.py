"""Scans whose header or voxels contradict themselves: the right number, and a note that says so."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brainage.config import load_preset
from brainage.errors import PreparationError, VolumeError
from brainage.prepared.arrays import prepare_scan
from brainage.prepared.source import ScanSource
from brainage.scans.headers import parse_header
from brainage.scans.open import read_scan
from brainage.scans.volume import load_noted
from brainage.scans.voxels import describe_background, scale_voxels

VALUES = np.random.default_rng(0).integers(1, 400, (12, 13, 14)).astype(np.float32)
SIZE = st.floats(0.4, 5)


def write(path: Path, data: np.ndarray = VALUES) -> Path:
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), path)
    return path


def make_header(sform: np.ndarray, sizes: list[float], code: int, qform_code: int = 1) -> bytes:
    """Header with a qform of the given sizes and any sform."""
    image = nib.Nifti1Image(VALUES, None)
    image.set_qform(np.diag([*sizes, 1.0]), qform_code)
    raw = np.frombuffer(image.to_bytes()[:348], nib.nifti1.header_dtype).copy()
    raw["sform_code"] = code
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        raw[name] = sform[row]
    return raw.tobytes()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(sizes=st.lists(SIZE, min_size=3, max_size=3), code=st.integers(1, 4))
def test_identity_that_contradicts_pixdim_gives_way_to_the_qform(
    sizes: list[float], code: int
) -> None:
    found = parse_header(make_header(np.eye(4), sizes, code), "x")
    assert np.allclose(np.linalg.norm(found.affine[:3, :3], axis=0), sizes, rtol=0.06)
    assert bool(found.note) == any(abs(1 / size - 1) > 0.05 for size in sizes)


def test_identity_without_a_qform_takes_the_sizes_of_pixdim() -> None:
    found = parse_header(make_header(np.eye(4), [2, 2, 3], 1, qform_code=0), "x")
    assert np.array_equal(np.diag(found.affine), [2, 2, 3, 1]) and "pixdim" in found.note


@pytest.mark.parametrize(("code", "size"), [(1, 2.0), (2, 2.4), (4, 2.4)])
def test_only_scanner_coordinates_must_keep_the_size_of_voxels(code: int, size: float) -> None:
    found = parse_header(make_header(np.diag([2.4, 2.4, 2.4, 1]), [2.0] * 3, code), "x")
    assert np.allclose(np.diag(found.affine)[:3], size) and found.note


def test_headers_that_disagree_on_left_and_right_are_noted() -> None:
    mirrored = parse_header(make_header(np.diag([-2.0, 2, 2, 1]), [2.0] * 3, 1), "x")
    assert mirrored.affine[0, 0] == -2 and "left and right" in mirrored.note
    turned = np.diag([-2.0, -2, 2, 1])  # by half a turn: not the same place, but the same side
    for sform, qform_code in ((turned, 1), (np.diag([-2.0, 2, 2, 1]), 0)):
        assert parse_header(make_header(sform, [2.0] * 3, 1, qform_code), "x").note == ""


@settings(max_examples=40, deadline=None, derandomize=True)
@given(excess=st.floats(0, 1), spare=st.booleans())
def test_long_quaternion_is_no_damage_beside_a_valid_sform(excess: float, spare: bool) -> None:
    raw = bytearray(make_header(np.diag([2.0, 2, 2, 1]), [2.0] * 3, int(spare)))
    quaternion = np.array([np.sqrt(1 + excess), 0, 0], "<f4")
    raw[256:268] = quaternion.tobytes()
    if spare:
        assert np.array_equal(np.diag(parse_header(bytes(raw), "x").affine), [2, 2, 2, 1])
    elif excess < 9e-5:
        assert np.allclose(np.diag(parse_header(bytes(raw), "x").affine), [2, -2, -2, 1])
    elif excess > 1.1e-4:
        with pytest.raises(VolumeError, match="damaged"):
            parse_header(bytes(raw), "x")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    offset=st.integers(-(2**30), 2**30),
    inter=st.sampled_from([0.0, -1.0, 1e9]),
    taken=st.booleans(),
    kind=st.sampled_from(["<i4", ">i4", "<i8", "<f8"]),
)
def test_large_offsets_cost_no_precision(offset: int, inter: float, taken: bool, kind: str) -> None:
    signal = np.arange(0, 2000, 7)
    shift = -float(offset) if taken else inter
    values, note = scale_voxels((signal + offset).astype(kind), 1.0, shift)
    right = signal + offset + shift
    assert np.abs(np.diff(values.astype(float)) - 7).max() <= 2000 * 3e-4
    assert bool(note) == (not np.allclose(values, right, rtol=0, atol=1))


def test_text_behind_a_gzip_stream_is_ignored_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "A.NII.GZ")
    path.write_bytes(path.read_bytes() + b"\r\nJUNK\r\n")
    volume, note = load_noted(path)
    assert np.array_equal(volume.data, VALUES) and "gzip" in note
    broken = bytearray(gzip.compress(gzip.decompress(path.read_bytes()[:-8])))
    broken[-6] ^= 1
    path.write_bytes(bytes(broken) + b"JUNK")
    with pytest.raises(VolumeError, match="CRC"):
        load_noted(path)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.tuples(*[st.integers(0, 1)] * 3), st.integers(2, 12))
def test_nan_corners_are_outside(corner: tuple[int, int, int], reach: int) -> None:
    from brainage.scans.voxels import fill_surroundings

    grid = np.indices(VALUES.shape)
    ends = [
        axis if end else 0 for axis, end in zip(np.subtract(VALUES.shape, 1), corner, strict=True)
    ]
    wedge = sum(abs(index - end) for index, end in zip(grid, ends, strict=True)) < reach
    data, note = fill_surroundings(np.where(wedge, np.float32(np.nan), VALUES))
    assert (data[wedge] == 0).all() and np.array_equal(data[~wedge], VALUES[~wedge]) and note


@pytest.mark.parametrize("kind", ["<i2", "<i4", "<f4", "<f8"])
def test_padding_is_outside(kind: str, tmp_path: Path) -> None:
    padded = VALUES.astype(kind)
    padded[:2] = -32768
    volume, note = load_noted(write(tmp_path / "a.nii", padded))
    assert (volume.data[:2] == 0).all() and np.array_equal(volume.data[2:], VALUES[2:]) and note


def test_values_that_reach_down_to_the_least_integer_are_no_padding(tmp_path: Path) -> None:
    values = np.linspace(-32768, 32767, VALUES.size).reshape(VALUES.shape).astype("<i2")
    assert load_noted(write(tmp_path / "a.nii", values))[0].data.min() == -32768


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s1--0.nii.gz\n", "datalad get"),
        (b"\x89PNG\r\n\x1a\n" + bytes(600), r"picture .*DICOM"),
        (b"ObjectType = Image\nNDims = 3\n" * 20, r"MetaImage.*Convert it to NIfTI"),
        (b"NRRD0004\n" + bytes(600), r"NRRD.*Convert it to NIfTI"),
        (b"BZh91AY" + bytes(600), r"archive \(bzip2\)\. Unpack"),
        (b"age,sex\n" * 200, r"text file.*DICOM"),
        (bytes(range(256)) * 3, r"unknown or damaged.*DICOM"),
    ],
)
def test_what_is_no_scan_is_told_in_plain_words(content: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(VolumeError, match=word):
        load_noted(tmp_path / "a.nii.gz", "scan")


def test_a_link_into_an_annex_says_how_to_fetch_it(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").symlink_to(".git/annex/objects/x/a.nii.gz")
    with pytest.raises(VolumeError, match="datalad get"):
        read_scan(tmp_path / "a.nii.gz", "scan")


@pytest.mark.parametrize(
    ("name", "spacing_mm", "word"),
    [
        ("sform_identity_qform_right", 2.0, "qform"),
        ("quat_w2_-5e-7_sform_ok", 8.0, ""),
        ("gz_trailing_junk", 8.0, "gzip"),
        ("spm_reslice_nan_wedges", 6.0, "outside"),
    ],
)
def test_reproducers_are_read(name: str, spacing_mm: float, word: str, data_root: Path) -> None:
    path = data_root / "strange_inputs" / f"{name}.nii.gz"
    if not path.exists():
        pytest.skip("strange_inputs is not there")
    scan = read_scan(path, "scan")
    assert np.allclose(scan.volume.spacing_mm, spacing_mm, atol=1e-3)
    assert word in scan.note and bool(scan.note) == bool(word)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    level=st.floats(0, 1),
    blur=st.floats(0, 0.4),
    head=st.floats(0.5, 0.9),
    seed=st.integers(0, 99),
)
def test_noise_as_strong_as_the_head_is_told_by_name(
    level: float, blur: float, head: float, seed: int
) -> None:
    """A ball of smooth tissue in noise: uniform, as a ratio of two noises is, or weak."""
    grid = np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij")
    inside = sum(axis**2 for axis in grid) < head**2
    tissue = 2000 + 800 * np.sin(9 * grid[0]) * np.cos(7 * grid[1])
    noise = np.random.default_rng(seed).uniform(0, 4095, inside.shape)
    noise = ndimage.gaussian_filter(noise, blur)
    strong = np.where(inside, tissue, noise).astype(np.float32)
    assert "MP2RAGE" in describe_background(strong)
    weak = np.where(inside, tissue, 0.08 * noise + level * 1000).astype(np.float32)
    assert describe_background(weak) == ""
    waves = 2000 * np.sin(7 * grid[0])  # as strong, but neighbours are alike
    assert describe_background(waves.astype(np.float32)) == ""


def test_no_real_scan_is_taken_for_noise(data_root: Path) -> None:
    heads = sorted((data_root / "ixi_hh").glob("sub-*/anat/*.nii.gz"))[:6]
    brains = sorted((data_root / "oasis1" / "t1").glob("*.nii.gz"))[:3]
    odd = [data_root / "odd_scans" / "spm_single_subj_T1.nii"]
    assert all("MP2RAGE" not in read_scan(path).note for path in [*heads, *brains, *odd])


def test_note_is_told_where_a_scan_fails(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(0, 4095, (32, 40, 32)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.diag([6.0, 6, 6, 1])), tmp_path / "a.nii")
    settings = load_preset("phantom").preprocessing
    with pytest.raises(PreparationError, match="MP2RAGE"):
        prepare_scan(ScanSource(str(tmp_path / "a.nii")), settings)
