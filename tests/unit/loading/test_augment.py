"""The chain that the settings ask for, and the user's own transforms in it."""

import numpy as np
import pytest
import torch

from brainage.config import AugmentationConfig, PreprocessingConfig
from brainage.errors import ConfigError
from brainage.loading.augment import Augmentation, load_transform
from brainage.preprocessing.intensity import tissue_patterns

OFF = {"flip_probability": 0.0, "affine_probability": 0.0, "noise_probability": 0.0}


def make_volumes(count: int = 3) -> torch.Tensor:
    volumes = torch.rand(count, 1, 14, 18, 12, generator=torch.Generator().manual_seed(3)) + 0.5
    volumes[..., :3] = 0
    return volumes


def change(settings: dict, seed: int = 0, spacing_mm: float = 2.0, volumes=None) -> torch.Tensor:
    inputs = make_volumes() if volumes is None else volumes
    grid = PreprocessingConfig(spacing_mm=spacing_mm, shape=tuple(inputs.shape[2:]))
    augment = Augmentation(AugmentationConfig.model_validate(OFF | settings), grid)
    return augment({"inputs": inputs, "seeds": torch.arange(len(inputs)) + 10 * seed})["inputs"]


def extra(name: str, keeps_background: bool = False, **arguments) -> dict:
    setting = {"name": name, "arguments": arguments, "keeps_background": keeps_background}
    return {"extra": [setting]}


SETTINGS = [
    {"flip_probability": 0.5},
    {"affine_probability": 1.0},
    {"contrast_probability": 1.0},
    {"bias_probability": 1.0},
    {"noise_probability": 1.0},
    {"blur_probability": 1.0},
    {"motion_probability": 1.0},
    {"sharpness_probability": 1.0, "max_sharpness": 0.5},
    {"tissue_probability": 1.0, "max_tissue": 0.5},
    {"edge_probability": 1.0, "max_edge_mm": 4.0},
    extra("torchio.RandomGhosting", p=1.0),
    extra("monai.transforms.RandGibbsNoise", prob=1.0),
    extra("monai.transforms.RandGibbsNoised", keys="inputs", prob=1.0),
    extra("tests.unit.loading.own:AddNumpyNoise"),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: str(settings)[:60])
def test_each_change_follows_the_seeds_and_leaves_the_input_alone(settings) -> None:
    volumes = make_volumes()
    one, same, other = (change(settings, seed, volumes=volumes) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, volumes)
    assert not torch.equal(one, other)
    assert type(one) is torch.Tensor and one.dtype == torch.float32 and one.is_contiguous()
    assert torch.equal(volumes, make_volumes())


def test_all_switched_off_changes_nothing() -> None:
    assert torch.equal(change({}), make_volumes())


@pytest.mark.parametrize(
    "settings",
    [
        {"noise_probability": 1, "bias_probability": 1, "contrast_probability": 1},
        {"blur_probability": 1, "motion_probability": 1},
        {"sharpness_probability": 1, "max_sharpness": 1, "edge_probability": 1, "max_edge_mm": 4},
        extra("tests.unit.loading.own.AddNumpyNoise", keeps_background=True),
    ],
)
def test_the_background_stays_zero(settings) -> None:
    assert not change(settings)[..., :3].any()


@pytest.mark.parametrize(
    "settings",
    [
        {"affine_probability": 1.0, "max_shift_mm": 8, "max_rotation_degrees": 0, "max_scale": 0},
        extra("torchio.Affine", scales=[1, 1, 1], degrees=[0, 0, 0], translation=[8, 8, 8]),
    ],
)
def test_lengths_are_millimetres(settings) -> None:
    volumes = torch.zeros(40, 1, 20, 20, 20)
    volumes[:, :, 10, 10, 10] = 1
    furthest = 0.0
    for moved in change(settings, spacing_mm=4.0, volumes=volumes)[:, 0]:
        place, weights = torch.nonzero(moved).double() - 10, moved[moved != 0].double()
        centre = (place * weights[:, None]).sum(0) / weights.sum()
        furthest = max(furthest, float(centre.abs().max()))
    assert 1.5 < furthest <= 2.01


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (extra("torchio.NoSuchTransform"), "augmentation.extra[0].name"),
        (extra("no_such_package.Flip"), "augmentation.extra[0].name"),
        (extra("os.system"), "augmentation.extra[0].name"),
        (extra("tests.unit.loading.own.no_transform"), "augmentation.extra[0].name"),
        (extra("torchio.RandomFlip", flip="often"), "augmentation.extra[0].arguments"),
        (
            extra("tests.unit.loading.own.Spoil"),
            "augmentation.extra[0] (tests.unit.loading.own.Spoil)",
        ),
        (
            extra("torchio.RandomGamma", log_gamma=1e6),
            "augmentation.extra[0] (torchio.RandomGamma)",
        ),
    ],
)
def test_what_is_no_transform_of_this_grid_is_refused_in_one_line(settings, where) -> None:
    with pytest.raises(ConfigError) as caught:
        change(settings)
    assert caught.value.where == where and caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["RandomFlip", "torchio.", "a b.c", "os;system", ""])
def test_names_that_cannot_be_imported_are_refused_in_the_settings(name) -> None:
    with pytest.raises(ValueError, match="name"):
        AugmentationConfig.model_validate(extra(name))


def test_reading_settings_imports_nothing_that_they_name(capsys) -> None:
    # `this` prints when it is imported.
    config = AugmentationConfig.model_validate(extra("this.Transform"))
    assert capsys.readouterr().out == ""
    with pytest.raises(ConfigError):
        load_transform(config.extra[0], 0)


def test_settings_without_later_changes_have_the_text_they_always_had() -> None:
    later = {"extra", "sharpness_probability", "max_sharpness", "edge_probability", "max_edge_mm"}
    assert not later & set(AugmentationConfig().model_dump(mode="json"))
    config = AugmentationConfig.model_validate(extra("torchio.RandomGhosting"))
    assert AugmentationConfig.model_validate(config.model_dump(mode="json")) == config


def test_redrawn_tissue_has_the_strength_and_the_places_of_the_templates_tissue() -> None:
    grid = PreprocessingConfig(
        spacing_mm=8.0, shape=(20, 24, 20), intensity="local", inner_depth_mm=4.0
    )
    settings = AugmentationConfig.model_validate(OFF | {"tissue_probability": 1, "max_tissue": 0.5})
    patterns = tissue_patterns(grid)
    brain = (patterns != 0).any(axis=0)
    np.testing.assert_allclose((patterns[:, brain] ** 2).mean(axis=1), 1, rtol=1e-4)
    inputs = torch.from_numpy(brain.astype(np.float32)).expand(60, 1, -1, -1, -1)
    batch = {"inputs": inputs, "seeds": torch.arange(60)}
    added = (Augmentation(settings, grid)(batch)["inputs"] - inputs).numpy()[:, 0]
    assert not added[:, ~brain].any()
    assert 0.1 < added[:, brain].std() < 1.5
