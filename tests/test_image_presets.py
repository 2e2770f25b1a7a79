"""Every preset of configs/images is complete: its network is built, cut and answers."""

import pytest
import torch

from brainage.config import load_preset, preset_names
from brainage.images.sets import resolve_images
from brainage.model.build import build_model, describe_cut

LARGE = ("resnet1", "resnet5", "vit_b16", "vgg19_", "worker_cnn_18m")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.startswith(LARGE) else ())
        for name in preset_names("images")
    ],
)
def test_the_preset_builds_a_network_that_answers(name):
    config = resolve_images(load_preset(name, "images"))
    stack = build_model(config).eval()
    outputs = stack(torch.zeros(1, *config.input_shape))
    assert outputs.shape == (1, config.target.classes)
    assert len(stack) == len(describe_cut(config))


@pytest.mark.parametrize("dataset", ["cifar10", "tiny_imagenet", "imagenet"])
@pytest.mark.parametrize("network", ["vgg19", "resnet50", "resnet101", "resnet152"])
def test_large_networks_follow_the_paper_s_optimiser_section(network, dataset):
    name = network if dataset == "cifar10" else f"{network}_{dataset}"
    config = load_preset(name, "images")
    training = config.training
    steps = {"cifar10": 64_000, "tiny_imagenet": 30_000, "imagenet": 600_000}[dataset]
    decay = 5e-5 if dataset == "imagenet" else 2e-4 if network == "resnet152" else 1e-4
    rates = (0.1, 0.0001 if dataset == "imagenet" else 0.001)
    if (network, dataset) == ("resnet152", "imagenet"):
        rates = (0.05, 0.00001)
    assert (training.iterations, training.weight_decay) == (steps, decay)
    assert (training.learning_rate, training.min_learning_rate) == rates
    assert training.batch_size == (128 if dataset == "cifar10" else 256)
    assert (training.optimizer, training.max_gradient_norm, training.keep) == (
        "momentum",
        None,
        "last",
    )
    assert config.images is not None and config.images.validation_fraction == 0.0
    assert config.learning.head == "thin"
    assert resolve_images(config).input_shape[1] == {"cifar10": 32, "imagenet": 224}.get(
        dataset, 64
    )
