"""The safe reader as MONAI sees it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage

from brainage.errors import VolumeError
from brainage.scans.monai_reader import SafeNiftiReader
from brainage.scans.volume import load_volume


def test_monai_loads_through_the_safe_reader(phantom_cohort: Path) -> None:
    path = next(phantom_cohort.parent.glob("sub-*/anat/*.nii.gz"))
    image = LoadImage(reader=SafeNiftiReader(), image_only=True)(str(path))
    volume = load_volume(path)
    np.testing.assert_array_equal(np.asarray(image), volume.data)
    np.testing.assert_allclose(np.asarray(image.affine), volume.affine)


def test_several_files_become_channels(phantom_cohort: Path) -> None:
    paths = sorted(str(path) for path in phantom_cohort.parent.glob("sub-*/anat/*.nii.gz"))[:2]
    reader = SafeNiftiReader()
    data, _ = reader.get_data(reader.read(paths))
    np.testing.assert_array_equal(data[1], load_volume(paths[1]).data)


def test_what_the_safe_reader_refuses_monai_does_not_load(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9, 2), "f4"), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(VolumeError, match="expected a 3-D volume"):
        SafeNiftiReader().read(tmp_path / "a.nii")


def test_only_names_of_known_formats_are_claimed() -> None:
    assert SafeNiftiReader().verify_suffix(["a.nii", Path("b.NII.GZ"), "c.mgz"])
    assert not SafeNiftiReader().verify_suffix(["a.nii", "b.png"])
