"""What is no T1 head fails, whatever it is; what is one passes, whatever its numbers."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from brainage.cohorts.phantom import build_phantom
from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.preprocessing.locate import Located, Placement
from brainage.preprocessing.mni import resample_volume
from brainage.preprocessing.perturbations import BY_NAME, Original, strip
from brainage.preprocessing.pipeline import process_volume
from brainage.scans.volume import load_volume
from brainage.types import FloatArray, Volume
from pipelines.study.other_images import CONTRASTS, imitate

SETTINGS = PreprocessingConfig()


def judge_file(path: Path) -> tuple[str, str]:
    """Verdict and reasons of a file; one in which there is no brain has failed."""
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    return judge_volume(load_volume(path))


def judge_volume(volume: Volume) -> tuple[str, str]:
    try:
        found = process_volume(volume, SETTINGS, "scan")
    except PreparationError as error:
        return "failed", error.reason
    return found.verdict, "; ".join(found.reasons)


def phantom(seed: int) -> Volume:
    rngs = [np.random.default_rng([seed, part]) for part in (0, 1)]
    return build_phantom(30 + 20 * seed, *rngs, spacing_mm=2)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_a_brain_of_another_contrast_fails(contrast: str) -> None:
    brain = phantom(0)
    mask = Volume((brain.data > 0).astype(np.float32), brain.affine)
    located = Located(Placement("mni brain", mask, np.eye(4)), brain)
    shown = imitate(contrast, brain, located, np.random.default_rng(0))
    stripped = Volume(np.where(brain.data > 0, shown.data, 0).astype(np.float32), brain.affine)
    # Amyloid PET of a healthy brain shows white matter brightest: a blurred T1 to the gate.
    allowed = ("flagged", "failed") if contrast == "amyloid PET" else ("failed",)
    assert judge_volume(stripped)[0] in allowed


NUMBERS = {
    "as it is": lambda data: data,
    "z-scored": lambda data: np.where(data > 0, (data - data[data > 0].mean()) / data.std(), 0),
    "in 8 bits": lambda data: np.round(255 * data / data.max()),
    "times a million": lambda data: 1e6 * data,
}


@pytest.mark.parametrize("change", NUMBERS)
def test_a_t1_brain_passes_whatever_its_numbers(change: str) -> None:
    brain = phantom(0)
    data: FloatArray = NUMBERS[change](brain.data).astype(np.float32)
    assert judge_volume(Volume(data, brain.affine)) == ("ok", "")


@pytest.mark.parametrize(
    "name",
    [
        "strange_inputs/dwi_single_volume.nii.gz",
        "strange_inputs/oas_mask.nii.gz",
        "strange_inputs/OAS1_0346_MR1_labels.nii.gz",
        "odd_scans/ds000011_sub-01_inplaneT2.nii",
        # Ten seconds; a real T2 and a computed FLAIR are left.
        pytest.param("odd_scans/nichart_sample1_FLAIR.nii.gz", marks=pytest.mark.slow),
        # CT of whole heads is told by its unit: test_values.py.
        pytest.param("odd_scans/niivue_CT_pitch.nii.gz", marks=pytest.mark.slow),
    ],
)
def test_a_real_file_that_is_no_t1_fails(name: str, data_root: Path) -> None:
    assert judge_file(data_root / name)[0] == "failed"


@pytest.mark.parametrize(
    ("name", "verdicts"),
    [
        ("strange_inputs/OAS1_0005_MR1_zscore_bg0.nii.gz", {"ok"}),
        # Of scanners that are not in the reference: noisier than any of it.
        ("odd_scans/niivue_T1_head_ext2.nii.gz", {"ok", "flagged"}),
        pytest.param(
            "odd_scans/ds000011_sub-01_T1w.nii.gz", {"ok", "flagged"}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_real_t1_is_used(name: str, verdicts: set[str], data_root: Path) -> None:
    assert judge_file(data_root / name)[0] in verdicts


def test_a_brain_that_was_stripped_too_tightly_is_flagged() -> None:
    brain = phantom(0)
    mask = ndimage.binary_erosion(brain.data > 0, iterations=3)
    verdict, reasons = judge_volume(Volume(np.where(mask, brain.data, 0), brain.affine))
    assert verdict == "flagged" and "rim_brightness" in reasons


def test_a_brain_with_its_top_cut_off_or_an_empty_slice_is_flagged() -> None:
    brain = phantom(0)
    settings = SETTINGS.model_copy(update={"min_mask_overlap": 1.0})  # placed by its voxels
    assert process_volume(brain, settings, "scan").verdict == "ok"
    top = int(np.flatnonzero(brain.data.any(axis=(0, 1)))[-1])
    for lost in (slice(top - 5, None), slice(top - 20, top - 19)):
        data = brain.data.copy()
        data[:, :, lost] = 0
        found = process_volume(Volume(data, brain.affine), settings, "scan")
        assert found.verdict == "flagged" and "flat_cut" in "; ".join(found.reasons)


def test_a_mask_of_a_head_that_was_stored_back_to_front_is_flagged(data_root: Path) -> None:
    head = load_volume(data_root / "ixi_hh/sub-IXI072/anat/sub-IXI072_T1w.nii.gz")
    mask = load_volume(data_root / "ixi_dlmuse/sub-IXI072_dlmuse.nii.gz")
    inside = (mask.data > 0).astype(np.float32)
    fits = process_volume(head, SETTINGS, "scan", mask=Volume(inside, mask.affine))
    assert fits.verdict == "ok" and fits.measures["mask_misfit"] < 0.04
    turned = Volume(np.ascontiguousarray(inside[:, ::-1]), mask.affine)
    found = process_volume(head, SETTINGS, "scan", mask=turned)
    assert found.verdict == "flagged" and "mask does not lie" in "; ".join(found.reasons)


def test_a_brain_without_its_cerebellum_is_flagged() -> None:
    brain = phantom(0)
    to_mni = process_volume(brain, SETTINGS, "scan").placement.to_mni @ brain.affine
    index = np.indices(brain.data.shape).reshape(3, -1)
    _, y, z = (to_mni[:3, :3] @ index + to_mni[:3, 3:]).reshape(3, *brain.data.shape)
    cerebellum = (y < -40) & (z < -20)
    verdict, reasons = judge_volume(Volume(np.where(cerebellum, 0, brain.data), brain.affine))
    assert verdict == "flagged" and "part of the brain is missing" in reasons


@pytest.mark.slow
@pytest.mark.parametrize("head", ["sub-IXI014", "sub-IXI168"])
def test_a_head_that_was_stripped_by_its_mask_passes_and_by_2_mm_less_is_flagged(
    head: str, data_root: Path
) -> None:
    path = data_root / f"ixi_hh/{head}/anat/{head}_T1w.nii.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    volume = load_volume(path)
    mask = process_volume(volume, SETTINGS, "scan").placement.mask
    brain = resample_volume(mask, volume.affine, volume.data.shape) >= 0.5
    scan = Original(volume, np.random.default_rng(0), lambda: brain)
    assert judge_volume(strip(scan, 0.0))[0] == judge_volume(strip(scan, 2.0))[0] == "ok"
    verdict, reasons = judge_volume(strip(scan, -2.0))
    assert verdict == "flagged" and "rim_brightness" in reasons


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "change"),
    [("sub-IXI079", "deface"), ("sub-IXI079", "crop_neck"), ("sub-IXI386", "deface")],
)
def test_a_small_head_without_neck_or_face_is_no_extracted_brain(
    head: str, change: str, data_root: Path
) -> None:
    path = data_root / f"ixi_hh/{head}/anat/{head}_T1w.nii.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    volume = load_volume(path)
    whole = process_volume(volume, SETTINGS, "scan")
    brain = resample_volume(whole.placement.mask, volume.affine, volume.data.shape) >= 0.5
    changed = BY_NAME[change].apply(Original(volume, np.random.default_rng(0), lambda: brain))
    found = process_volume(changed, SETTINGS, "scan")
    assert (found.recognised, found.verdict) == ("raw head", "ok")
    moved_mm = np.abs(found.transform - whole.transform)[:3].max()
    assert moved_mm < 0.2
