"""Measure volumes per second from disk or cache to augmented batches: ours, MONAI's, TorchIO's.

``python -m pipelines.speed.data_path --output DIR``. All read the same volumes, apply the same
kinds of changes with the same probabilities, and give float32 batches of 4. The others also run
as their makers advise: plain tensors in the cache, lazy transforms, two loader processes. Cold
is the first epoch, with all that has to be built; warm is the median of the next ones.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import torch

from brainage.config import (
    AugmentationConfig,
    Config,
    NetworkConfig,
    PreprocessingConfig,
    TrainingConfig,
)
from brainage.loading.scans import build_scan_loader
from brainage.prepared.arrays import PreparedScan, load_scan, pack_scan
from brainage.prepared.store import PreparedStore
from brainage.training.resources import keep_freed_memory
from brainage.types import HalfArray
from brainage.workflows.console import run_as_command, say
from brainage.workflows.results import write_json, write_table

BATCH = 4
SPACING_MM = 2.0
CHANGES = AugmentationConfig(
    flip_probability=0.5,
    affine_probability=0.5,
    bias_probability=0.25,
    noise_probability=0.25,
)

Epoch = Callable[[], Iterable[Any]]


@dataclass(frozen=True)
class Files:
    """The same volumes in the forms that each reads."""

    nifti: list[Path]
    keys: list[str]
    store: PreparedStore
    cache: Path


def main() -> None:
    """Measure and write data_path.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--volumes", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=3, help="warm epochs, at least")
    parser.add_argument("--seconds", type=float, default=2.0, help="warm seconds, at least")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", type=int, nargs=3, default=(80, 96, 80))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory(torch.device("cpu"))  # as every training does; it serves the others too
    rows: list[dict[str, Any]] = []
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            files = write_volumes(Path(folder), options.volumes, tuple(options.shape))
            names = list(PATHS)
            first = repeat % len(names)
            for name in [*names[first:], *names[:first]]:
                cold, warm = measure(PATHS[name], files, options.epochs, options.seconds)
                rows.append({"name": name, "repeat": repeat, "cold": cold, "warm": warm})
                say(f"{name}: {cold:.1f} cold, {warm:.1f} warm volumes a second")
    table = pd.DataFrame(rows)
    write_table(table, options.output / "data_path.csv")
    middle = table.groupby("name", sort=False)[["cold", "warm"]].median()
    say(middle.round(1).to_string())
    facts = {name: value for name, value in vars(options).items() if name != "output"}
    write_json({**facts, "batch": BATCH, "spacing_mm": SPACING_MM}, options.output / "machine.json")


def write_volumes(folder: Path, count: int, shape: tuple[int, int, int]) -> Files:
    """Smooth noise inside an ellipsoid, as prepared arrays and as compressed NIfTI."""
    generator = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    brain = sum(axis**2 for axis in axes) < 0.8
    store = PreparedStore(folder / "store")
    nifti, keys = [], []
    for number in range(count):
        coarse = generator.normal(size=[-(-size // 4) for size in shape])
        fine = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[tuple(slice(size) for size in shape)]
        array = np.where(brain, fine, 0).astype(np.float16)
        key = f"{number:064x}"
        store.save("array", key, *pack_scan(PreparedScan(array, "noise", "ok", (), {})))
        path = folder / f"{number}.nii.gz"
        image = nibabel.Nifti1Image(array.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
        nibabel.save(image, path)
        nifti.append(path)
        keys.append(key)
    return Files(nifti, keys, store, folder / "cache")


def measure(
    build: Callable[[Files], Epoch], files: Files, epochs: int, least_s: float
) -> tuple[float, float]:
    """Time the first epoch, building included, and the median of the others: volumes a second."""
    count = len(files.nifti)
    start = time.perf_counter()
    epoch = build(files)
    seconds: list[float] = []
    while len(seconds) <= epochs or sum(seconds[1:]) < least_s:
        for batch in epoch():
            assert _inputs(batch).shape[0] <= BATCH
        end = time.perf_counter()
        seconds.append(end - start)
        start = end
    return count / seconds[0], count / float(np.median(seconds[1:]))


def _inputs(batch: Any) -> torch.Tensor:
    inputs = batch["inputs"]
    tensor: torch.Tensor = inputs["data"] if isinstance(inputs, dict) else inputs
    return tensor


def _ours(files: Files, processes: int = 0) -> Epoch:
    shape = nibabel.load(files.nifti[0]).shape
    arrays: HalfArray = np.empty((len(files.keys), *shape), np.float16)
    for row, key in enumerate(files.keys):
        scan = load_scan(files.store, key, PreprocessingConfig(shape=shape))
        assert scan is not None
        arrays[row] = scan.array
    config = Config(
        network=NetworkConfig(name="cnn3d_light"),
        preprocessing=PreprocessingConfig(spacing_mm=SPACING_MM, shape=shape),
        augmentation=CHANGES,
        training=TrainingConfig(batch_size=BATCH, loader_processes=processes),
    )
    ages, shuffle = [50.0] * len(arrays), torch.Generator()
    loader = build_scan_loader(arrays, ages, config, shuffle, augments=True)
    return lambda: loader


def _monai_transforms(plain: bool) -> tuple[list[Any], list[Any]]:
    from monai import transforms as t

    degrees = np.deg2rad(CHANGES.max_rotation_degrees)
    shift = CHANGES.max_shift_mm / SPACING_MM
    load: list[Any] = [t.LoadImaged("inputs", image_only=True), t.EnsureChannelFirstd("inputs")]
    if plain:  # without positions and history, which cost at every operation
        load.append(t.EnsureTyped("inputs", track_meta=False))
    change = [
        t.RandFlipd("inputs", prob=CHANGES.flip_probability, spatial_axis=0),
        t.RandAffined(
            "inputs",
            prob=CHANGES.affine_probability,
            rotate_range=(degrees,) * 3,
            scale_range=(CHANGES.max_scale,) * 3,
            translate_range=(shift,) * 3,
            padding_mode="zeros",
            mode="bilinear",
        ),
        t.RandBiasFieldd("inputs", prob=CHANGES.bias_probability, coeff_range=(-0.5, 0.5)),
        t.RandGaussianNoised("inputs", prob=CHANGES.noise_probability, std=CHANGES.max_noise_std),
        t.ToTensord("inputs", track_meta=False),
    ]
    return load, change


def _monai(
    files: Files,
    kind: str = "cache",
    *,
    plain: bool = False,
    lazy: bool = False,
    processes: int = 0,
) -> Epoch:
    from monai.data import CacheDataset, DataLoader, PersistentDataset
    from monai.transforms import Compose

    load, change = _monai_transforms(plain)
    items = [{"inputs": str(path)} for path in files.nifti]
    chain = Compose([*load, *change], lazy=lazy)
    if kind == "cache":
        dataset = CacheDataset(items, chain, num_workers=0, progress=False, copy_cache=not plain)
    else:
        files.cache.mkdir(exist_ok=True)
        dataset = PersistentDataset(items, chain, cache_dir=files.cache)
    return _batches(DataLoader, dataset, processes)


def _batches(loader: Any, dataset: Any, processes: int) -> Epoch:
    """Load batches with one loader, whose processes stay from epoch to epoch."""
    lasting = {"num_workers": processes, "persistent_workers": processes > 0}
    batches = loader(dataset, batch_size=BATCH, shuffle=True, **lasting)
    return lambda: batches


def _torchio(files: Files, keeps: bool = False, processes: int = 0) -> Epoch:
    # It is measured here, not a part of the program: that uses it in one place only.
    torchio = import_module("torchio")
    shift = CHANGES.max_shift_mm / SPACING_MM
    transform = torchio.Compose(
        [
            torchio.RandomFlip(axes=(0,), flip_probability=CHANGES.flip_probability),
            torchio.RandomAffine(
                scales=CHANGES.max_scale,
                degrees=CHANGES.max_rotation_degrees,
                translation=shift,
                default_pad_value=0.0,
                p=CHANGES.affine_probability,
            ),
            torchio.RandomBiasField(p=CHANGES.bias_probability),
            torchio.RandomNoise(std=(0.0, CHANGES.max_noise_std), p=CHANGES.noise_probability),
        ]
    )
    subjects = [torchio.Subject(inputs=torchio.ScalarImage(path)) for path in files.nifti]
    if keeps:
        for subject in subjects:
            subject.load()
    dataset = torchio.SubjectsDataset(subjects, transform=transform)
    return _batches(torchio.SubjectsLoader, dataset, processes)


PATHS: dict[str, Callable[[Files], Epoch]] = {
    "brainage": _ours,
    "brainage, 2 processes": partial(_ours, processes=2),
    "MONAI CacheDataset": _monai,
    "MONAI CacheDataset, lazy": partial(_monai, lazy=True),
    "MONAI CacheDataset, plain tensors": partial(_monai, plain=True),
    "MONAI CacheDataset, plain tensors, 2 processes": partial(_monai, plain=True, processes=2),
    "MONAI PersistentDataset": partial(_monai, kind="persistent"),
    "TorchIO SubjectsLoader": _torchio,
    "TorchIO SubjectsLoader, in memory": partial(_torchio, keeps=True),
    "TorchIO SubjectsLoader, in memory, 2 processes": partial(_torchio, keeps=True, processes=2),
}

if __name__ == "__main__":
    sys.exit(run_as_command(main))
