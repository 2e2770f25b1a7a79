"""Networks for images: their sizes, shapes and arguments."""

import pytest
import torch
from torch import nn

from brainage.errors import ConfigError
from brainage.networks import build_stages


def parameters(stages: dict[str, nn.Module]) -> int:
    return sum(p.numel() for stage in stages.values() for p in stage.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "arguments", "stages", "expected"),
    [
        ("mlp", (1, 28, 28), {}, 3, 784 * 320 + 320 + 320 * 320 + 320),
        # He et al. 2016, without the output layer's 650; 1x1 shortcuts add 2,752
        ("resnet", (3, 32, 32), {"depth": 32}, 16, 463_504 + 2_752),
        # Torchvision's 25,557,032 without its last layer's 2,049,000
        ("resnet", (3, 64, 64), {"depth": 50, "small_images": False}, 17, 23_508_032),
        # Simonyan & Zisserman: the convolutions of configuration E; batch norm for their biases
        ("vgg", (3, 32, 32), {"layout": "vgg19"}, 16, 20_024_384 - 5_504 + 2 * 5_504),
        # Dosovitskiy et al.: 86 million, without the last norm and layer
        ("vit", (3, 224, 224), {"size": "base"}, 13, 85_768_704),
    ],
)
def test_a_network_has_its_published_size(name, shape, arguments, stages, expected):
    built = build_stages(name, shape[0], shape[1:], arguments)
    assert len(built) == stages and parameters(built) == expected


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [({"depth": 20}, (64, 8, 8)), ({"depth": 50, "width": 4}, (128, 4, 4))],
)
def test_resnets_for_small_images_keep_the_grid_in_the_stem(arguments, shape):
    stages = build_stages("resnet", 3, (32, 32), arguments)
    inputs = torch.zeros(2, 3, 32, 32)
    assert stages["stem"](inputs).shape[2:] == (32, 32)
    assert nn.Sequential(*stages.values())(inputs).shape == (2, *shape)


def test_activation_before_gives_native_workers_values_of_both_signs():
    inputs = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    after = build_stages("mlp", 1, (8, 8), {})["layer1"](inputs)
    before = build_stages("mlp", 1, (8, 8), {"activation": "before"})["layer1"](inputs)
    assert after.min() == 0 and before.min() < 0


def test_both_activations_make_the_same_network():
    outputs = []
    for activation in ("after", "before"):
        torch.manual_seed(0)
        stages = build_stages("mlp", 1, (8, 8), {"activation": activation})
        outputs.append(nn.Sequential(*stages.values())(torch.ones(2, 1, 8, 8)))
    assert torch.equal(*outputs)


def test_class_token_comes_first_and_sees_the_image():
    stages = build_stages("vit", 3, (32, 32), {"patch_size": 8, "layers": 1})
    inputs = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    before = [stages["embedding"](image) for image in inputs]
    assert torch.equal(before[0][:, 0], before[1][:, 0])
    one, other = (stages["layer1"](tokens) for tokens in before)
    assert one.shape == (1, 17, 192)
    assert not torch.allclose(one[:, 0], other[:, 0])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet", {"depth": 33}, "6n \\+ 2, got 33"),
        ("vgg", {"layout": "vgg7"}, "vgg8b, vgg19"),
        ("vit", {"size": "huge"}, "tiny, base"),
        ("vit", {"patch_size": 5}, "do not tile"),
        ("mlp", {"activation": "never"}, "after or before"),
    ],
)
def test_an_impossible_argument_is_refused_with_what_works(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_stages(name, 3, (32, 32), arguments)
