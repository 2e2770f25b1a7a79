"""Tiny networks and batches that many tests share."""

from typing import Any

import torch

from brainage.config import Config, build_config

SHAPE = (16, 16, 16)
NETWORKS = ("cnn3d_light", "sfcn", "usc_cnn3d", "resnet3d", "vit3d")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "cnn3d_light": {"channels": [4, 8, 8]},
    "sfcn": {"channels": [4, 8, 8]},
    "usc_cnn3d": {"channels": [4, 8, 8], "kernel_size": 2, "dropout": 0.0},
    "resnet3d": {"channels": [4, 8], "units": [1, 2]},
    "vit3d": {"hidden_size": 16, "layers": 3, "heads": 2},
}


def make_config(network: str, *, epochs: int = 2, **learning: Any) -> Config:
    """Settings of a tiny network at a coarse grid."""
    learning = {"workers_per_block": 4, "leader_fraction": 0.5, **learning}
    return build_config(
        {
            "preprocessing": {"spacing_mm": 12.0, "shape": list(SHAPE)},
            "network": {"name": network, "arguments": ARGUMENTS[network]},
            "target": {"low_years": 15.0, "high_years": 95.0, "bins": 17},
            "learning": learning,
            "training": {"epochs": epochs, "batch_size": 4},
        },
        "test",
    )


def random_batch(config: Config, samples: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Volumes (B, 1, I, J, K) and ages (B,)."""
    generator = torch.Generator().manual_seed(5)
    volumes = torch.randn(samples, 1, *config.preprocessing.shape, generator=generator)
    ages = 20 + 70 * torch.rand(samples, generator=generator)
    return volumes, ages
