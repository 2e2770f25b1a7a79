"""Folders and zips of image files: the one scan in them is read, or it is said what to give."""

import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainage.errors import VolumeError
from brainage.scans.open import read_scan, scan_series, source_files
from tests.dicom_helpers import make_head

HEAD = make_head()


def write(folder: Path, *names: str) -> Path:
    """Write the head under each name, beside things that are no scans."""
    folder.mkdir()
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(HEAD.data, HEAD.affine), path)
    (folder / "sidecar.json").write_text("{}")
    (folder / "notes.pdf").write_bytes(b"%PDF-1.4")
    return folder


def pack(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "anat/A.NII", "a.mgz", "no suffix.nii"])
def test_the_one_image_of_a_folder_or_zip_is_read(name: str, zipped: bool, tmp_path: Path) -> None:
    source = write(tmp_path / "in", name.replace("NII", "nii"))
    for file in source.rglob("*.nii"):
        file.rename(file.parent / Path(name).name)
    source = pack(source) if zipped else source
    assert np.array_equal(read_scan(source).volume.data, HEAD.data)
    assert scan_series(source, "scan") == [] and source_files(source)


def test_the_pair_of_a_folder_is_read(tmp_path: Path) -> None:
    write(tmp_path / "in")
    nib.save(nib.Nifti1Pair(HEAD.data, HEAD.affine), tmp_path / "in" / "a.img")
    assert np.array_equal(read_scan(tmp_path / "in").volume.data, HEAD.data)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("names", "told"), [(("a.nii", "b.nii.gz"), "2 image files.*--cohort"), ((), "Give NIfTI")]
)
def test_several_images_or_none_say_what_to_give(
    names: tuple[str, ...], told: str, zipped: bool, tmp_path: Path
) -> None:
    source = write(tmp_path / "in", *names)
    with pytest.raises(VolumeError, match=told):
        read_scan(pack(source) if zipped else source)
