"""Networks for images: their sizes, shapes and arguments."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from brainage.config import load_preset
from brainage.errors import ConfigError
from brainage.images.sets import resolve_images
from brainage.lfnn.heads.auglocal import fresh_copy
from brainage.model.build import build_model
from brainage.networks import build_stages
from brainage.networks.fast_cnn import IdentityConv2d, ShiftNorm, WhiteningStem, cosine_basis


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
        ("vit", (3, 224, 224), {"size": "base", "split_layers": True}, 25, 85_768_704),
    ],
)
def test_a_network_has_its_published_size(name, shape, arguments, stages, expected):
    built = build_stages(name, shape[0], shape[1:], arguments)
    assert len(built) == stages and parameters(built) == expected


@pytest.mark.parametrize(
    ("preset", "outputs", "expected"),
    [
        # Read-outs of workers × units by classes come to what the stages have.
        ("worker_cnn_275k", 40 * 10 + 10, 274_891),
        ("worker_cnn_438k", 40 * 10 + 10, 437_570),
        ("worker_cnn_18m", 2000 * 1000 + 1000, 18_257_160),
    ],
)
def test_the_paper_s_own_networks_have_its_number_of_weights(preset, outputs, expected):
    config = resolve_images(load_preset(preset, "images"))
    channels, *size = config.input_shape
    stages = build_stages(config.network.name, channels, tuple(size), config.network.arguments)
    assert parameters(stages) + outputs == expected
    said = {"275k": 275e3, "438k": 438e3, "18m": 18.3e6}[preset.removeprefix("worker_cnn_")]
    assert abs(expected / said - 1) < 0.003


def test_the_paper_s_cifar_network_has_its_number_of_weights_with_heads():
    model = build_model(resolve_images(load_preset("worker_cnn_876k", "images")))
    assert sum(p.numel() for p in model.parameters()) == 875_388
    assert [len(block.body) for block in model.blocks] == [1, 1, 1, 1]


@pytest.mark.parametrize(("stem", "size"), [("3x3", 64), ("7x7", 32), ("7x7_pool", 16)])
def test_a_stem_has_a_stride_and_a_pooling_or_not(stem, size):
    for arguments in ({"depth": 20}, {"depth": 50, "width": 4}):
        stages = build_stages("resnet", 3, (64, 64), arguments | {"stem": stem})
        assert stages["stem"](torch.zeros(1, 3, 64, 64)).shape[2:] == (size, size)


def test_halves_of_an_encoder_layer_make_the_whole():
    arguments = {"patch_size": 8, "layers": 1}
    whole, halves = (
        nn.Sequential(*build_stages("vit", 3, (16, 16), arguments | extra).values()).eval()
        for extra in ({}, {"split_layers": True})
    )
    halves.load_state_dict(dict(zip(halves.state_dict(), _in_order(whole), strict=True)))
    inputs = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(whole(inputs), halves(inputs))


def _in_order(whole: nn.Sequential) -> list[torch.Tensor]:
    """Weights of attention before those of the MLP, as the halves have them."""
    state = whole.state_dict()
    parts = ("0.", "1.norm1.", "1.attn.", "1.norm2.", "1.mlp.")
    return [value for part in parts for name, value in state.items() if name.startswith(part)]


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
        ("resnet", {"stem": "9x9"}, "3x3, 7x7"),
        ("worker_cnn", {"widths": [4, 4, 4]}, "in pairs"),
    ],
)
def test_an_impossible_argument_is_refused_with_what_works(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_stages(name, 3, (32, 32), arguments)


def test_a_whitening_stem_gives_uncorrelated_coefficients_of_variance_one():
    basis = cosine_basis(3)
    torch.testing.assert_close(basis @ basis.T, torch.eye(3), atol=1e-6, rtol=0)
    torch.manual_seed(0)
    smooth = functional.avg_pool2d(torch.randn(64, 1, 20, 20), 5, stride=1)
    images = smooth + 0.1 * torch.randn(64, 3, 16, 16)  # colours and neighbours are alike
    stem = WhiteningStem(3)
    given = stem(images)
    assert given.shape == (64, 24, 15, 15) and not list(stem.parameters())
    signed = (given[:, :12] - given[:, 12:]).transpose(0, 1).flatten(1)
    correlation = torch.corrcoef(signed)
    torch.testing.assert_close(signed.std(dim=1), torch.ones(12), atol=0.01, rtol=0)
    assert (correlation - torch.eye(12)).abs().max() < 0.1


def test_shifts_move_64_times_as_far_and_scales_stay():
    maps, target = torch.randn(8, 3, 4, 4), torch.randn(8, 3, 4, 4)
    moved = []
    for norm in (nn.BatchNorm2d(3), ShiftNorm(3)):
        before = norm(maps)
        rate = torch.optim.SGD([norm.bias], lr=0.01)
        (before * target).sum().backward()
        rate.step()
        moved.append(norm(maps) - before)
    torch.testing.assert_close(moved[1], 64 * moved[0], atol=1e-4, rtol=1e-4)
    assert [name for name, _ in norm.named_parameters()] == ["bias"]


def test_statistics_for_inference_follow_the_last_batches():
    norm, maps = ShiftNorm(2), torch.randn(64, 2, 8, 8) * 3 + 5
    for _ in range(12):
        norm(maps)
    torch.testing.assert_close(norm.eval()(maps), norm.train()(maps), atol=0.02, rtol=0)


def test_filters_begin_as_the_identity_in_a_head_s_copy_too():
    stage = nn.Sequential(IdentityConv2d(2, 6, 3, padding=1, bias=False))
    nn.init.normal_(stage[0].weight)
    maps = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(fresh_copy(stage)(maps)[:, :2], maps)
