"""The carried template is that of nilearn, and no other file is taken for it."""

from pathlib import Path

import numpy as np
import pytest

from brainage.errors import StoreError
from brainage.preprocessing import template
from brainage.preprocessing.template import STEPS, load_template, load_tissues
from pipelines.release.template import build_spacing


def test_the_carried_template_is_made_from_nilearns() -> None:
    built, carried = build_spacing(8), load_template(8)
    # Another SciPy may round a voxel the other way.
    difference = np.abs(built["intensity_8"] / STEPS - carried.intensity)
    assert difference.max() < 1.5 / STEPS
    assert (built["mask_8"] != carried.mask).sum() <= 5
    np.testing.assert_array_equal(built["affine_8"], carried.affine)


def test_every_spacing_covers_the_same_brain() -> None:
    litres = [load_template(mm).mask.sum() * mm**3 / 1e6 for mm in template.SPACINGS_MM]
    assert litres == pytest.approx([1.89] * 3, abs=0.05)


def test_tissues_are_shares_inside_the_brain() -> None:
    brain = load_template(template.TISSUE_SPACING_MM).mask
    for share in load_tissues():
        assert share.shape == brain.shape and not share[~brain].any()
        assert share.min() == 0 and 0.99 <= share.max() <= 1


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forged = tmp_path / "template.npz"
    forged.write_bytes(template.TEMPLATE_FILE.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(template, "TEMPLATE_FILE", forged)
    with pytest.raises(StoreError, match="not the file of this version"):
        template._load_file.__wrapped__()
