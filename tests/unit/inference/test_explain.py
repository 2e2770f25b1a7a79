"""Maps of networks whose answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainage.cohorts.phantom import _draw_ageing, _draw_tissue, _load_anatomy
from brainage.errors import ConfigError
from brainage.inference.attribution import (
    LEGENDS,
    PredictedAge,
    explain_prepared,
    explain_scan,
    load_reference,
    outside_share,
    randomisation_similarity,
    region_table,
    to_density,
)
from brainage.model.build import build_model
from brainage.model.bundle import load_bundle, save_bundle, save_ensemble
from brainage.model.released import RELEASED_FOLDER
from brainage.prepared.arrays import normalise, prepare_cohort
from brainage.preprocessing.locate import Placement
from brainage.preprocessing.pipeline import process_again
from brainage.types import MAP_METHODS, Volume
from pipelines.speed.memory import count_saved_bytes
from tests.small import make_config

OLDER, YOUNGER = (4, 4, 4), (8, 8, 8)
EYE = np.eye(4)


class TwoVoxels(nn.Module):
    """Age read from one voxel that makes older and one that makes younger, nothing else."""

    def forward(self, volumes: Tensor) -> Tensor:
        return 40 + 2 * volumes[:, 0, *OLDER] - volumes[:, 0, *YOUNGER]


@pytest.fixture
def scan() -> np.ndarray:
    array = np.zeros((12, 12, 12), np.float16)
    array[2:10, 2:10, 2:10] = 1.0
    return array


@pytest.mark.parametrize("method", MAP_METHODS)
def test_signs_and_places_are_those_of_the_network(scan, method):
    found = explain_scan(TwoVoxels(), scan, np.zeros_like(scan), method).attribution
    assert found[OLDER] > 0 > found[YOUNGER]
    assert abs(found[OLDER]) > 1.5 * abs(found[YOUNGER])
    assert np.abs(found).argmax() == np.ravel_multi_index(OLDER, found.shape) or method[0] == "o"


def test_integrated_gradients_sum_to_the_difference_in_years(scan):
    found = explain_scan(TwoVoxels(), scan, np.zeros_like(scan))
    assert (found.predicted_age_years, found.reference_age_years) == (41.0, 40.0)
    assert found.attribution.sum() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_scan_that_equals_the_reference_has_an_empty_map(scan, method):
    found = explain_scan(TwoVoxels(), scan, scan, method)
    assert not found.attribution.any()


def test_density_does_not_depend_on_the_size_of_voxels():
    coarse = np.full((2, 2, 2), 8.0, np.float32)
    fine = np.ones((4, 4, 4), np.float32)
    maps = [to_density(years, "integrated_gradients", mm) for years, mm in ((coarse, 8), (fine, 4))]
    assert np.ptp(np.concatenate([values.ravel() for values, _ in maps])) < 1e-4
    assert {unit for _, unit in maps} == {"years per cm³"}
    assert to_density(fine, "smoothgrad", 4)[1] == "years per SD"


class Fitted(nn.Module):
    """Age by a bent line through all voxels, fitted to phantoms: quick, and no straight line."""

    def __init__(self, arrays: np.ndarray, age_years: np.ndarray) -> None:
        super().__init__()
        rows = arrays.reshape(len(arrays), -1).astype(np.float64)
        wanted = np.arctanh((age_years - 55) / 45)
        inverse = np.linalg.inv(rows @ rows.T + 30 * np.eye(len(rows)))
        weights = rows.T @ (inverse @ (wanted - wanted.mean()))
        self.weights = torch.from_numpy(weights.astype(np.float32))
        self.shift = float(wanted.mean() - (rows @ weights).mean())

    def forward(self, volumes: Tensor) -> Tensor:
        return 55 + 45 * torch.tanh(volumes.flatten(1) @ self.weights + self.shift)


SETTINGS = make_config("cnn3d_light").preprocessing


def phantom(ventricles: float, sulci: float, grey: float) -> np.ndarray:
    """Prepared phantom with amounts, about 0 to 1, of what ageing does."""
    anatomy = _load_anatomy(4)
    tissue = 400 * _draw_tissue(anatomy, ventricles, sulci, grey)
    brain = tissue > 44
    placement = Placement("prepared brain", Volume(brain.astype(np.float32), anatomy.affine), EYE)
    volume = Volume(np.where(brain, tissue, np.float32(0)), anatomy.affine)
    done = process_again(volume, placement, {}, SETTINGS, "phantom", ("ok", ()))
    return normalise(done, SETTINGS, "phantom").array


@pytest.fixture(scope="module")
def ageing():
    """Model of age fitted to phantoms, and one person's phantom: wide ventricles, and usual."""
    rng = np.random.default_rng(0)
    ages = rng.uniform(20, 85, 40)
    model = Fitted(np.stack([phantom(*_draw_ageing(age, rng)) for age in ages]), ages)
    ventricles, sulci, grey = _draw_ageing(45.0, rng)
    return model, phantom(ventricles + 0.4, sulci, grey), phantom(ventricles, sulci, grey)


def predict(model, *arrays):
    volumes = torch.from_numpy(np.stack(arrays).astype(np.float32))[:, None]
    return model(volumes).double().numpy()


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_wider_ventricles_add_years_to_maps_that_say_adds_years(ageing, method):
    model, wide, usual = ageing
    older, younger = predict(model, wide, usual)
    assert older > younger + 1
    reference = load_reference(SETTINGS)
    maps = [explain_scan(model, array, reference, method) for array in (wide, usual)]
    assert maps[0].attribution.sum() > maps[1].attribution.sum()
    assert LEGENDS[method] == ("takes years away", "adds years")


def test_wider_ventricles_are_blue_in_a_gradient_whose_legend_says_brighter_here(ageing):
    model, wide, usual = ageing
    older, younger = predict(model, wide, usual)
    gradient = explain_scan(model, usual, usual, "smoothgrad").attribution
    change = wide.astype(np.float32) - usual.astype(np.float32)
    assert (gradient * change).sum() == pytest.approx(older - younger, rel=0.5)
    # Where the image became darker, the gradient alone has the other sign: no contribution.
    assert gradient[change < -0.3].mean() < 0
    assert all("brighter here" in words for words in LEGENDS["smoothgrad"])


def test_integrated_gradients_add_up_to_prediction_minus_reference(ageing):
    model, wide, _ = ageing
    reference = load_reference(SETTINGS)
    predicted, of_reference = predict(model, wide, reference)
    assert abs(predicted - of_reference) > 1
    found = explain_scan(model, wide, reference)
    assert found.attribution.sum() == pytest.approx(predicted - of_reference, abs=0.5)


@pytest.mark.slow
def test_map_of_the_released_model_adds_up_on_real_heads(data_root, tmp_path):
    bundle = load_bundle(RELEASED_FOLDER)
    heads = sorted((data_root / "ixi_hh").glob("sub-*/anat/*_T1w.nii.gz"))[:3]
    names = [path.name for path in heads]
    settings = bundle.config.preprocessing
    arrays = prepare_cohort([str(path) for path in heads], names, settings, tmp_path).arrays
    ages = bundle.predict(arrays).predicted_age_years
    of_reference = bundle.predict(load_reference(settings)[None]).predicted_age_years[0]
    for array, age in zip(arrays, ages, strict=True):
        found = explain_prepared(bundle, array)
        assert found.predicted_age_years == pytest.approx(age, abs=0.01)
        assert found.attribution.sum() == pytest.approx(age - of_reference, abs=0.5)


@pytest.mark.parametrize("average_heads", ["none", "all"])
def test_age_with_gradients_is_the_one_that_is_predicted(tmp_path, average_heads):
    inference = {"average_heads": average_heads, "mirror": True, "point": "median"}
    config = make_config("cnn3d_light")
    config = config.model_copy(update={"inference": config.inference.model_copy(update=inference)})
    save_bundle(tmp_path, build_model(config), config, {})
    bundle = load_bundle(tmp_path)
    arrays = np.random.default_rng(0).normal(0, 1, (2, 16, 16, 16)).astype(np.float16)
    ages = PredictedAge(bundle)(torch.from_numpy(arrays.astype(np.float32))[:, None])
    expected = bundle.predict(arrays).predicted_age_years
    assert ages.detach().numpy() == pytest.approx(expected, abs=1e-4)


def test_gradient_of_an_ensemble_is_the_mean_of_its_networks_in_less_memory(tmp_path):
    configs = [make_config("cnn3d_light").model_copy(update={"seed": seed}) for seed in range(3)]
    for config in configs:
        save_bundle(tmp_path / f"fold-{config.seed}", build_model(config), config, {})
    save_ensemble(tmp_path, [f"fold-{config.seed}" for config in configs], {})
    bundle = load_bundle(tmp_path)
    volumes = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    volumes.requires_grad_()
    weights = torch.tensor([1.0, -2.0])
    with count_saved_bytes() as all_at_once:
        read = [item.target.predict(item.model(volumes)) for item in bundle.members]
        (expected,) = torch.autograd.grad(torch.stack(read).mean(0), volumes, weights)
    with count_saved_bytes() as one_by_one:
        (found,) = torch.autograd.grad(PredictedAge(bundle)(volumes), volumes, weights)
    torch.testing.assert_close(found, expected)
    assert one_by_one.peak < 0.5 * all_at_once.peak


def test_share_outside_the_brain(scan):
    attribution = np.zeros(scan.shape, np.float32)
    attribution[5, 5, 5], attribution[0, 0, 0] = -3.0, 1.0
    assert outside_share(attribution, scan) == 0.25


def test_unknown_method_is_refused(scan):
    with pytest.raises(ConfigError, match="gradcam"):
        explain_scan(TwoVoxels(), scan, scan, "gradcam")


def test_network_with_other_weights_has_another_map_and_the_same_one_the_same(tmp_path):
    config = make_config("cnn3d_light")
    save_bundle(tmp_path, build_model(config), config, {})
    bundle = load_bundle(tmp_path)
    array = np.random.default_rng(0).normal(0, 1, (16, 16, 16)).astype(np.float16)
    maps = [explain_prepared(bundle, array, "smoothgrad", seed=3).attribution for _ in "ab"]
    np.testing.assert_array_equal(*maps)
    assert abs(randomisation_similarity(bundle, array)) < 0.5
    assert torch.equal(
        bundle.model.state_dict()["blocks.0.head.bias"], build_model(config)[0].head.bias
    )


def test_regions_share_the_attribution_by_sign():
    labels = np.array([[[0, 1], [1, 2]]])
    attribution = np.array([[[1.0, 2.0], [-3.0, 0.0]]], np.float32)
    table = region_table([attribution, attribution], labels, ("a", "b", "c")).set_index("region")
    assert table.loc["b", ["older", "younger", "net"]].tolist() == [2.0, -3.0, -1.0]
    assert table["share"].tolist() == pytest.approx([5 / 6, 1 / 6, 0.0])
    assert table["voxels"].sum() == 4
