"""Tiny networks and batches that many tests share."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from brainage.cohorts.cohort import Cohort
from brainage.config import Config, build_config
from brainage.training.run import PreparedCohort

SHAPE = (16, 16, 16)
NETWORKS = ("cnn3d_light", "sfcn", "usc_cnn3d", "resnet3d", "vit3d")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "cnn3d_light": {"channels": [4, 8, 8]},
    "sfcn": {"channels": [4, 8, 8]},
    "usc_cnn3d": {"channels": [4, 8, 8], "kernel_size": 2, "dropout": 0.0},
    "resnet3d": {"channels": [4, 8], "units": [1, 2]},
    "vit3d": {"hidden_size": 16, "layers": 3, "heads": 2},
    "mlp": {"widths": [12, 8]},
    "vgg": {"width": 0.03},
    "resnet": {"depth": 8, "width": 4},
    "vit": {"patch_size": 8, "layers": 2},
    "worker_cnn": {"widths": [4, 4], "workers": 2, "worker_units": 3},
    "fast_cnn": {"widths": [4, 6]},
}
IMAGE_NETWORKS = ("mlp", "vgg", "resnet", "vit", "worker_cnn", "fast_cnn")
IMAGE_SHAPE = (2, 16, 16)


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


def make_image_config(
    network: str,
    *,
    epochs: int = 2,
    images: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    **learning: Any,
) -> Config:
    """Settings of a tiny network for classes, resolved unless `images` names a data set."""
    facts = {"dataset": "test", "input_shape": IMAGE_SHAPE, "mean": (0.5, 0.5), "std": (0.2, 0.2)}
    return build_config(
        {
            "images": images or facts,
            "target": {"kind": "classes", "classes": 3},
            "network": {"name": network, "arguments": ARGUMENTS[network]},
            "learning": {"workers_per_block": 4, "leader_fraction": 0.5, **learning},
            "training": {"epochs": epochs, "batch_size": 8, **(training or {})},
        },
        "test",
    )


def random_batch(config: Config, samples: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (B, C, ...) and ages or classes (B,)."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(samples, *config.input_shape, generator=generator)
    if config.images is not None:
        return inputs, torch.arange(samples) % 3
    return inputs, 20 + 70 * torch.rand(samples, generator=generator)


def make_noise_cohort(scans: int = 24) -> PreparedCohort:
    """Noise that brightens with age; no scan has to be prepared."""
    rng = np.random.default_rng(0)
    ages = rng.uniform(20, 90, scans)
    arrays = rng.normal(size=(scans, *SHAPE)) + ages[:, None, None, None] / 50
    names = [f"s{number}" for number in range(scans)]
    table = pd.DataFrame({"scan_id": names, "subject_id": names, "age_years": ages})
    table = table.assign(session_id="", sex="F", site="", path="")
    return PreparedCohort(Cohort(table, "noise"), arrays.astype(np.float16), synthetic=True)


def write_mnist(root: Path, images: np.ndarray, labels: np.ndarray, packed: bool = False) -> Path:
    """Write (N, 28, 28) images as training and test part of an idx data set; returns its folder."""
    folder = root / "mnist"
    folder.mkdir()
    for part in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
            content += array.astype(np.uint8).tobytes()
            path = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder
