"""From a head, an extracted brain or a brain in MNI space to the grid, with a verdict."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from brainage.cohorts.phantom import build_phantom
from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.files import sha256_bytes
from brainage.preprocessing.pipeline import Processed, process_volume
from brainage.preprocessing.registration import displacement_mm
from brainage.preprocessing.template import load_template
from brainage.sandbox.parent import Child, Limits
from brainage.scans.volume import load_volume
from brainage.types import Volume
from tests.heads import FAST, POSE, build_head, orientations, save_formats, save_turned


@pytest.fixture(scope="module")
def head() -> Volume:
    return build_head()


@pytest.fixture(scope="module")
def processed(head: Volume) -> Processed:
    return process_volume(head, FAST, "sub-7")


def test_a_whole_head_is_registered_and_stripped(processed: Processed) -> None:
    assert processed.recognised == "raw head"
    assert displacement_mm(processed.transform, np.linalg.inv(POSE)) < 4
    assert processed.measures["mask_overlap"] > 0.92
    assert processed.image.data.shape == processed.mask.shape == FAST.shape
    assert not processed.brain.data[~processed.mask].any()


def test_every_step_is_timed(processed: Processed) -> None:
    steps = {"recognise", "working grid", "bias field", "brain mask", "registration", "quality"}
    assert steps <= set(processed.seconds)


def test_the_number_of_threads_leaves_the_bits_alone(head: Volume, processed: Processed) -> None:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(5)
    again = process_volume(head, FAST, "sub-7")
    np.testing.assert_array_equal(again.image.data, processed.image.data)
    np.testing.assert_array_equal(again.mask, processed.mask)
    assert again.measures == processed.measures


def test_a_child_with_more_threads_gives_the_same_bits(
    head: Volume, processed: Processed, tmp_path: Path
) -> None:
    nib.save(nib.Nifti1Image(head.data, head.affine), tmp_path / "head.nii")
    child = Child(Limits(threads=3))
    answer = child.run("tests.child_tasks:process_head", {"path": str(tmp_path / "head.nii")})
    child.close()
    here = sha256_bytes(processed.image.data.tobytes())  # tests have one thread
    assert (answer.problem, answer.result) == ("", {"sha256": here})


def test_a_head_that_lies_askew_is_found_all_the_same(head: Volume) -> None:
    turn = np.eye(4)
    turn[:3, :3] = nib.eulerangles.euler2mat(0.6, 0, 0)
    askew = process_volume(Volume(head.data, turn @ head.affine), FAST, "sub-7")
    assert displacement_mm(askew.transform, np.linalg.inv(turn @ POSE)) < 5


def test_a_brain_in_mni_space_is_not_registered() -> None:
    brain = build_phantom(50, np.random.default_rng(0), np.random.default_rng(1))
    processed = process_volume(brain, FAST, "sub-7")
    assert processed.recognised == "mni brain"
    np.testing.assert_array_equal(processed.transform, np.eye(4))


def test_an_extracted_brain_elsewhere_is_registered() -> None:
    brain = build_phantom(50, np.random.default_rng(0), np.random.default_rng(1))
    processed = process_volume(Volume(brain.data, POSE @ brain.affine), FAST, "sub-7")
    assert processed.recognised == "extracted brain"
    assert displacement_mm(processed.transform, np.linalg.inv(POSE)) < 4


def test_neck_and_fat_that_a_strip_has_left_move_nothing() -> None:
    brain = build_phantom(50, np.random.default_rng(0), np.random.default_rng(1), spacing_mm=4)
    bare = process_volume(Volume(brain.data, POSE @ brain.affine), FAST, "sub-7")
    data, white = brain.data.copy(), np.percentile(brain.data[brain.data > 0], 90)
    middle, low = data.shape[0] // 2, int(np.argmax(data.any(axis=(0, 1))))
    beside = np.zeros_like(data, dtype=bool)
    beside[middle - 7 : middle + 7, 8:20, : low + 4] = True  # down to the image's edge
    data[beside & (data == 0)] = 2.5 * white
    left = process_volume(Volume(data, POSE @ brain.affine), FAST, "sub-7")
    assert left.recognised == "extracted brain"
    assert displacement_mm(left.transform, bare.transform) < 1.5  # 2.0 if left in
    assert left.measures["mask_at_border"] == 0
    assert left.measures["mask_litres"] < bare.measures["mask_litres"] + 0.1


def test_a_given_mask_takes_the_place_of_ours(head: Volume) -> None:
    template = load_template(4)
    mask = Volume(template.mask.astype(np.float32), POSE @ template.affine)
    processed = process_volume(head, FAST, "sub-7", mask=mask)
    assert processed.recognised == "masked head"
    assert processed.measures["mask_litres"] == pytest.approx(
        template.mask.sum() * 64 / 1e6, rel=0.02
    )
    assert displacement_mm(processed.transform, np.linalg.inv(POSE)) < 4


def test_a_mask_elsewhere_is_refused(head: Volume) -> None:
    mask = Volume(np.ones((8, 8, 8), np.float32), np.diag([4.0, 4, 4, 1]) + 900 * np.eye(4, k=3))
    with pytest.raises(PreparationError, match="mask is empty where the scan is"):
        process_volume(head, FAST, "sub-7", mask=mask)


def test_something_without_a_brain_is_refused() -> None:
    noise = np.random.default_rng(0).uniform(0, 1, (40, 40, 40)).astype(np.float32)
    with pytest.raises(PreparationError, match=r"sub-7: .*looks like a brain"):
        process_volume(Volume(noise, np.diag([4.0, 4, 4, 1])), FAST, "sub-7")


def test_thick_slices_are_flagged(head: Volume) -> None:
    thick = Volume(
        np.ascontiguousarray(head.data[:, :, ::2]), head.affine @ np.diag([1.0, 1, 2, 1])
    )
    processed = process_volume(thick, FAST, "sub-7")
    assert processed.verdict != "ok"
    assert any("thick slices (slice_mm 8" in reason for reason in processed.reasons)


def test_a_file_resampled_to_a_coarse_grid_is_not_called_blurred(processed: Processed) -> None:
    # `build_head` has voxels of 4 mm.
    assert "sharpness" not in processed.measures and "noise" in processed.measures
    rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    fine = process_volume(build_phantom(50, *rngs, spacing_mm=2), FAST, "sub-7")
    assert {"sharpness", "sharpness_balance"} <= fine.measures.keys()


def test_a_verdict_does_not_depend_on_the_networks_grid() -> None:
    brain = build_phantom(50, np.random.default_rng(0), np.random.default_rng(1), spacing_mm=2)
    coarse = process_volume(brain, FAST.on_grid(8.0, (176.0, 208.0, 176.0)), "sub-7")
    fine = process_volume(brain, FAST.on_grid(1.5, (60.0, 60.0, 60.0)), "sub-7")
    assert coarse.measures == pytest.approx(fine.measures, rel=1e-4)


def agrees(path: Path, expected: Processed) -> None:
    """Same brain within 0.5 % of its range; a voxel on the mask's edge may fall either way."""
    found = process_volume(load_volume(path), FAST, path.name)
    common = found.mask & expected.mask
    assert (found.mask != expected.mask).sum() <= 0.002 * expected.mask.sum()
    values, wanted = found.image.data[common], expected.image.data[common]
    np.testing.assert_allclose(values / values.max(), wanted / wanted.max(), atol=0.005)


def reads_alike(path: Path, head: Volume) -> None:
    """The head but for its brightness: what reads alike is processed alike."""
    volume = load_volume(path)
    values, expected = volume.data / volume.data.max(), head.data / head.data.max()
    np.testing.assert_allclose(values, expected, atol=1e-4)
    np.testing.assert_allclose(volume.affine, head.affine, atol=1e-4)


def test_formats_agree(head: Volume, processed: Processed, tmp_path: Path) -> None:
    *others, scaled = save_formats(head, tmp_path)
    for path in others:
        reads_alike(path, head)
    agrees(scaled, processed)


@pytest.mark.parametrize("code", orientations())
def test_orientations_are_read_alike(code: str, head: Volume, tmp_path: Path) -> None:
    reads_alike(save_turned(head, code, tmp_path), head)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, marks=[pytest.mark.slow] if code != "PSR" else [])
        for code in orientations()
    ],
)
def test_orientations_agree(code: str, head: Volume, processed: Processed, tmp_path: Path) -> None:
    agrees(save_turned(head, code, tmp_path), processed)


def test_a_real_head_is_prepared_and_ok(data_root: Path) -> None:
    path = data_root / "ixi_hh" / "sub-IXI033" / "anat" / "sub-IXI033_T1w.nii.gz"
    processed = process_volume(load_volume(path), PreprocessingConfig(), path.name)
    assert (processed.recognised, processed.verdict) == ("raw head", "ok"), processed.reasons
    assert processed.measures["template_correlation"] > 0.45


def test_a_misregistered_scan_of_oasis_fails_and_one_upside_down_is_turned(data_root: Path) -> None:
    found = []
    for name in ("OAS1_0254_MR1", "OAS1_0198_MR1"):
        path = data_root / "oasis1" / "t1" / f"{name}.nii.gz"
        found.append(process_volume(load_volume(path), PreprocessingConfig(), name))
    assert [one.verdict for one in found] == ["failed", "ok"]
    assert any("template_correlation" in reason for reason in found[0].reasons)
    assert found[1].recognised == "extracted brain" and found[1].transform[2, 2] < -0.9


def test_an_almost_empty_image_is_refused(head: Volume) -> None:
    data = np.zeros_like(head.data)
    data[25, 25, 25] = 1
    with pytest.raises(PreparationError, match="2 distinct values"):
        process_volume(replace(head, data=data), FAST, "sub-7")
