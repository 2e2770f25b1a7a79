"""Derivatives of other programs are known by name, with the mask beside them."""

from pathlib import Path

import pytest

from brainage.scans.derivative_names import find_derivative


@pytest.mark.parametrize(
    ("name", "beside", "label"),
    [
        ("sub-1_desc-preproc_T1w.nii.gz", "sub-1_desc-brain_mask.nii.gz", "fMRIPrep/sMRIPrep"),
        ("T1.mgz", "brainmask.mgz", "FreeSurfer head"),
        ("brain.mgz", None, "FreeSurfer brain"),
        ("sub-1_T1w.nii.gz", None, ""),
    ],
)
def test_derivatives_are_known_by_name(
    tmp_path: Path, name: str, beside: str | None, label: str
) -> None:
    if beside is not None:
        (tmp_path / beside).touch()
    found = find_derivative(tmp_path / name)
    assert found.label.startswith(label)
    assert bool(found.label) == bool(label)
    assert found.mask == (tmp_path / beside if beside else None)


def test_a_mask_that_is_not_there_is_not_promised(tmp_path: Path) -> None:
    assert find_derivative(tmp_path / "sub-1_desc-preproc_T1w.nii.gz").mask is None
    assert find_derivative(tmp_path / "T1.mgz").mask is None
