"""Readers of image files: idx, the binary CIFAR version, JPEG arrays, folders of images."""

import gzip
import io
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from brainage.errors import ImageDataError, first_line
from brainage.files import DAMAGE_ERRORS, sha256_bytes, sha256_file

Labels = NDArray[np.int64]
Pixels = NDArray[np.uint8]
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
# Largest unpacked file: EMNIST's training images have 547 MB; a few MB of gzip can hold GBs.
_MOST_BYTES = 750_000_000
MOST = 100_000
"""Images on disk whose contents are looked at for more than training."""
_Result = TypeVar("_Result")

_READ_ERRORS = (*DAMAGE_ERRORS, Image.DecompressionBombError)


def read_idx(path: Path) -> Pixels:
    """Read an idx file of unsigned bytes, plain or gzipped.

    Format: two zero bytes, type 8, number of dimensions, sizes as big-endian 32-bit integers, data
    (http://yann.lecun.com/exdb/mnist).

    Raises
    ------
    ImageDataError
        If the file cannot be read or its size is not what its header says.
    """
    content = _attempt(path, lambda: _read_bytes(path), "cannot be read as idx")
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    if content[:3] != b"\0\0\x08" or not dimensions or len(content) < start:
        raise ImageDataError(str(path), "is not an idx file of unsigned bytes.")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    expected, came = int(np.prod(shape, dtype=np.int64)), len(content) - start
    if came != expected:
        problem = f"header says {shape}, {expected} bytes, but {came} follow."
        raise ImageDataError(str(path), problem, "Fetch it anew.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_cifar_binary(
    paths: Sequence[Path], label_bytes: int, classes: int
) -> tuple[Pixels, Labels]:
    """Read files of the binary CIFAR version.

    A record is its label bytes, of which the last counts (CIFAR-100: coarse, fine), and 3072
    bytes of a 3×32×32 image (https://www.cs.toronto.edu/~kriz/cifar.html).

    Returns
    -------
    numpy.ndarray of uint8 (N, 3, 32, 32)
        Images.
    numpy.ndarray of int64 (N,)
        Labels.

    Raises
    ------
    ImageDataError
        If a file is missing, does not consist of whole records or has an impossible label.
    """
    parts = []
    for path in paths:
        content = _attempt(path, partial(_read_bytes, path), "cannot be read")
        size = label_bytes + 3072
        if not content or len(content) % size:
            problem = f"{len(content)} bytes are not whole records of {size}."
            raise ImageDataError(str(path), problem, "Fetch it anew.")
        records = np.frombuffer(content, np.uint8).reshape(-1, size)
        check_labels(records[:, label_bytes - 1], classes, path)
        parts.append(records)
    records = np.concatenate(parts)
    images = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    return images, records[:, label_bytes - 1].astype(np.int64)


def read_jpeg_arrays(path: Path, size: tuple[int, int], classes: int) -> tuple[Pixels, Labels]:
    """Read an .npz of concatenated JPEG bytes (`jpeg`), their `offsets` and `labels`.

    Returns
    -------
    numpy.ndarray of uint8 (N, 3, I, J)
        Images.
    numpy.ndarray of int64 (N,)
        Labels.

    Raises
    ------
    ImageDataError
        If an array is missing or they do not fit together, or an image is damaged.
    """

    def load() -> dict[str, NDArray[np.generic]]:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in ("jpeg", "offsets", "labels")}

    arrays = _attempt(path, load, "does not hold the arrays jpeg, offsets and labels")
    stream, labels = arrays["jpeg"].tobytes(), arrays["labels"].astype(np.int64)
    ends = arrays["offsets"].astype(np.int64).tolist()
    if len(ends) != len(labels) + 1 or ends[0] != 0 or ends[-1] != len(stream):
        problem = f"{len(labels)} labels, {len(ends)} offsets and {len(stream)} bytes do not fit."
        raise ImageDataError(str(path), problem, "Offsets are one more than labels, from 0.")
    check_labels(labels, classes, path)
    images = np.empty((len(labels), 3, *size), np.uint8)
    for index, (start, end) in enumerate(pairwise(ends)):
        decode = partial(_decode, io.BytesIO(stream[start:end]))
        image = _attempt(path, decode, f"image {index} is damaged")
        if image.shape[1:] != size:
            raise ImageDataError(str(path), f"image {index} is {image.shape[1:]}, not {size}.")
        images[index] = image
    return images, labels


def check_labels(labels: NDArray[np.generic], classes: int, path: Path) -> None:
    """Refuse labels outside 0 … classes − 1.

    Raises
    ------
    ImageDataError
        With the first wrong label.
    """
    wrong = np.flatnonzero((labels.astype(np.int64) < 0) | (labels.astype(np.int64) >= classes))
    if wrong.size:
        problem = f"label {labels[wrong[0]]} of image {wrong[0]} is not in 0 to {classes - 1}."
        raise ImageDataError(str(path), problem)


@dataclass(frozen=True, eq=False)
class FolderImages:
    """Images that stay on disk and are decoded when a batch asks for them.

    Attributes
    ----------
    paths : tuple of pathlib.Path (N,)
        Image files.
    labels : numpy.ndarray of int64 (N,)
        Classes.
    size : tuple of int (2,)
        Height and width that an image is brought to: shorter edge scaled, centre cut out.
    names : tuple of str
        Of the classes, in order.
    threads : int
        Decoders at work at once.
    """

    paths: tuple[Path, ...]
    labels: Labels
    size: tuple[int, int]
    names: tuple[str, ...] = ()
    threads: int = 4

    def load(self, indices: NDArray[np.int64]) -> Pixels:
        """Images (B, 3, I, J).

        Raises
        ------
        ImageDataError
            If a file is damaged.
        """
        with ThreadPoolExecutor(self.threads) as pool:
            return np.stack(list(pool.map(self._load_one, indices.tolist())))

    def content_hash(self) -> str:
        """SHA-256 over names, labels and contents; above `MOST` images sizes stand for contents."""
        # Reading all pixels would take hours.
        tell = (lambda path: path.stat().st_size) if len(self.paths) > MOST else sha256_file
        rows = (
            f"{path.parent.name}/{path.name} {tell(path)} {label}"
            for path, label in zip(self.paths, self.labels.tolist(), strict=True)
        )
        return sha256_bytes("\n".join(rows).encode("utf-8", "surrogateescape"))

    def _load_one(self, index: int) -> Pixels:
        path = self.paths[index]
        return _attempt(path, lambda: _decode(path, self.size), "is not a readable image")


def class_names(folder: Path) -> list[str]:
    """Names of the class folders in a folder, hidden ones (.DS_Store's kin) left out."""
    return sorted(e.name for e in folder.iterdir() if e.is_dir() and not e.name.startswith("."))


def list_class_folders(folder: Path, size: tuple[int, int], classes: int) -> FolderImages:
    """Images in one folder a class, at any depth below it; classes in order of their names.

    Raises
    ------
    ImageDataError
        If there are not as many folders as classes, or one holds no image.
    """
    names = class_names(folder)
    if len(names) != classes:
        problem = f"expected {classes} class folders, got {len(names)}."
        remedy = "A part of a data set is a set of its own: name its folder otherwise."
        raise ImageDataError(str(folder), problem, remedy)
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = sorted(p for p in (folder / name).rglob("[!.]*") if _is_image(p))
        if not found:
            known = ", ".join(IMAGE_SUFFIXES)
            raise ImageDataError(str(folder / name), f"holds no images ({known}).")
        paths += found
        labels += [label] * len(found)
    return FolderImages(tuple(paths), np.array(labels, np.int64), size, tuple(names))


def check_same_classes(train: Path, held_out: Path) -> None:
    """Refuse two parts whose class folders have other names: their labels would not agree.

    Raises
    ------
    ImageDataError
        With names that stand in one of them only.
    """
    only = sorted({*class_names(train)} ^ {*class_names(held_out)})
    if only:
        problem = f"its class folders are not those of {train.name}: {', '.join(only[:6])} differ."
        raise ImageDataError(str(held_out), problem, "Give both the same folders.")


def read_edge(path: Path) -> int:
    """Shorter edge of an image in pixels, from its header.

    Raises
    ------
    ImageDataError
        If it is no image.
    """

    def read() -> int:
        with Image.open(path) as image:
            return min(image.size)

    return _attempt(path, read, "is not a readable image")


def check_bits(paths: Sequence[Path]) -> None:
    """Refuse images of 16 bits that use 14 or fewer: their upper 8 are almost black.

    Raises
    ------
    ImageDataError
        With the largest pixel.
    """

    def read_largest(path: Path) -> int:
        with Image.open(path) as image:
            return int(np.asarray(image).max()) if image.mode.startswith("I") else 0

    largest = max(_attempt(p, partial(read_largest, p), "is not a readable image") for p in paths)
    if 0 < largest < 2**14:
        problem = f"pixels of 16 bits go up to {largest} alone: of their upper 8 bits, which are"
        problem += f" taken, {largest // 256 + 1} values are left."
        raise ImageDataError(str(paths[0].parent), problem, "Scale them to 65535, or save 8 bits.")


def list_annotated(
    folder: Path, annotations: Path, names: Sequence[str], size: tuple[int, int]
) -> FolderImages:
    """Images in one folder whose classes stand in a table (Tiny-ImageNet's validation part).

    Raises
    ------
    ImageDataError
        If the table cannot be read, or names an unknown class or a missing image.
    """
    read = partial(annotations.read_text, encoding="utf-8")
    lines = _attempt(annotations, lambda: read().splitlines(), "cannot be read")
    present = _attempt(folder, lambda: {p.name for p in folder.iterdir()}, "cannot be listed")
    numbers = {name: label for label, name in enumerate(names)}
    paths, labels = [], []
    for number, line in enumerate(lines, start=1):
        image, _, rest = line.partition("\t")
        label = numbers.get(rest.split("\t")[0])
        if label is None or image not in present:
            problem = f"line {number} names an unknown class or a missing image: {line[:80]!r}."
            raise ImageDataError(str(annotations), problem)
        paths.append(folder / image)
        labels.append(label)
    if not paths:
        raise ImageDataError(str(annotations), "names no image.")
    return FolderImages(tuple(paths), np.array(labels, np.int64), size, tuple(names))


def _decode(source: Path | io.BytesIO, size: tuple[int, int] | None = None) -> Pixels:
    with Image.open(source) as opened:
        image = _to_rgb(opened)
    if size is not None:
        image = _fit(image, size)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits, turned as EXIF says.

    Pillow's own conversion cuts 16 bits off at 255: all is white; and leaves transparency out: a
    drawing of one colour that lies in it alone is lost. It is laid on white, a bright one on black.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() >= 2**16:
            raise ValueError("more than 16 bits a pixel; save it with 8 or 16")
        image = Image.fromarray((pixels >> 8).astype(np.uint8))
    plain = image.convert("RGB")
    bands = [band.getextrema() for band in plain.split()]
    if image.has_transparency_data and all(low == high for low, high in bands):
        ground = "white" if float(np.mean(bands)) < 128 else "black"
        drawing = image.convert("RGBA")
        plain = Image.alpha_composite(Image.new("RGBA", image.size, ground), drawing)
    return plain.convert("RGB")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    scale = max(height / image.height, width / image.width)
    if scale != 1.0:
        wanted = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        image = image.resize(wanted, Image.Resampling.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _read_bytes(path: Path) -> bytes | bytearray:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    if not packed:
        return path.read_bytes()
    content = bytearray()
    with gzip.open(path) as unpacked:
        while piece := unpacked.read(2**20):
            content += piece
            if len(content) > _MOST_BYTES:
                raise ValueError(f"unpacks to more than {_MOST_BYTES:,} bytes")
    return content


def _attempt(path: Path, read: Callable[[], _Result], problem: str) -> _Result:
    try:
        return read()
    except _READ_ERRORS as error:
        raise ImageDataError(str(path), f"{problem} ({first_line(error)}).") from error
