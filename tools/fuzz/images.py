"""Healthy image data sets of every kind, and their readers."""

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from brainage.images.decoding import list_annotated, list_class_folders
from brainage.images.sets import load_images
from tools.fuzz.target import Target, read_all


def idx_seeds() -> list[dict[str, bytes]]:
    """The four files of a small MNIST."""
    rng = np.random.default_rng(0)
    files = {}
    for part, count in (("train", 12), ("t10k", 5)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
            content = header + array.tobytes()
            packed = part == "t10k"
            name = f"{part}-{kind}-ubyte" + (".gz" if packed else "")
            files[name] = gzip.compress(content, 1) if packed else content
    return [files]


def cifar_seeds() -> list[dict[str, bytes]]:
    """Binary CIFAR-10 of three images a file."""
    rng = np.random.default_rng(0)

    def records() -> bytes:
        rows = rng.integers(0, 256, (3, 3073), dtype=np.uint8)
        rows[:, 0] %= 10
        return rows.tobytes()

    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    return [{name: records() for name in names}]


def _picture(rng: np.random.Generator, kind: str, side: int = 32) -> bytes:
    stream = io.BytesIO()
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def jpeg_seeds() -> list[dict[str, bytes]]:
    """CIFAR-10 as arrays of JPEG bytes."""
    rng = np.random.default_rng(0)

    def part(count: int) -> bytes:
        images = [_picture(rng, "JPEG") for _ in range(count)]
        offsets = np.cumsum([0, *map(len, images)])
        stream = io.BytesIO()
        jpeg = np.frombuffer(b"".join(images), np.uint8)
        np.savez(stream, jpeg=jpeg, offsets=offsets, labels=np.arange(count) % 10)
        return stream.getvalue()

    return [{"train.npz": part(4), "test.npz": part(2)}]


def folder_seeds() -> list[dict[str, bytes]]:
    """Two classes in folders, and a table of classes as Tiny-ImageNet has one."""
    rng = np.random.default_rng(0)
    table = "a.png\tcat\t0\t0\t9\t9\nb.jpg\tdog\t0\t0\t9\t9\n"
    return [
        {
            "train/cat/a.png": _picture(rng, "PNG", 10),
            "train/dog/b.jpg": _picture(rng, "JPEG", 12),
            "val/images/a.png": _picture(rng, "PNG", 9),
            "val/images/b.jpg": _picture(rng, "JPEG", 11),
            "val/val_annotations.txt": table.encode(),
        }
    ]


def read_folders(folder: Path) -> None:
    """Both ways in which images lie in folders; every image is decoded."""

    def annotated() -> object:
        table, names = folder / "val" / "val_annotations.txt", ["cat", "dog"]
        images = list_annotated(folder / "val" / "images", table, names, (8, 8))
        return images.load(np.arange(len(images.labels))) if len(images.labels) else None

    def classes() -> object:
        return list_class_folders(folder / "train", (8, 8), 2).load(np.arange(2))

    read_all(annotated, classes)


def _load_set(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        data = load_images(name, folder)
        return [part.load(np.arange(len(part.labels))) for part in (data.train, data.test)]

    return read


IMAGES: dict[str, Target] = {
    "idx": Target(idx_seeds, _load_set("mnist"), guided="train-images-idx3-ubyte"),
    "cifar": Target(cifar_seeds, _load_set("cifar10")),
    "jpeg": Target(jpeg_seeds, _load_set("cifar10")),
    "image_folders": Target(folder_seeds, read_folders, guided="val/val_annotations.txt"),
}
