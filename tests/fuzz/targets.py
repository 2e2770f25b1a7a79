"""Everything that reads foreign bytes, each with healthy inputs to start from.

An input is a set of named files: most readers get one, an Analyze pair or a bundle several.
"""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from PIL import Image

from brainage.bundle import load_bundle, save_bundle
from brainage.config import load_config, preset_names
from brainage.config.loading import config_folder
from brainage.data.cohort import read_cohort
from brainage.data.image_sets import load_images
from brainage.data.scans import read_scan
from brainage.files import sha256_bytes
from brainage.model import build_model
from tests.dicom_helpers import make_head, write_series
from tests.small import make_config

Files = Mapping[str, bytes]
Mend = Callable[[dict[str, bytes]], dict[str, bytes]]


def _same(files: dict[str, bytes]) -> dict[str, bytes]:
    return files


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes
    ----------
    seeds : callable
        Healthy inputs.
    read : callable
        Reads the files of an input from a folder; may raise nothing but a `BrainageError`.
    mend : callable
        Makes checksums right again after damage, so that damage reaches what lies behind them.
    """

    seeds: Callable[[], list[dict[str, bytes]]]
    read: Callable[[Path], object]
    mend: Mend = field(default=_same)


def _image_bytes(kind: type, data: np.ndarray, big_endian: bool = False) -> dict[str, bytes]:
    image = kind(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    if big_endian:
        image = kind(
            data.astype(data.dtype.newbyteorder(">")),
            image.affine,
            image.header.as_byteswapped(">"),
        )
    with TemporaryDirectory() as folder:
        suffix = {nib.MGHImage: "mgz", nib.Nifti1Pair: "img", nib.Spm2AnalyzeImage: "img"}.get(
            kind, "nii"
        )
        image.to_filename(Path(folder) / f"scan.{suffix}")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _volume(dtype: type = np.int16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 200, (11, 10, 9)).astype(dtype)


def nifti_seeds() -> list[dict[str, bytes]]:
    """NIfTI-1 and -2, little and big endian, packed, and a pair."""
    plain = _image_bytes(nib.Nifti1Image, _volume())
    return [
        plain,
        _image_bytes(nib.Nifti1Image, _volume(np.float32)),
        _image_bytes(nib.Nifti1Image, _volume(), big_endian=True),
        _image_bytes(nib.Nifti2Image, _volume(np.uint8)),
        _image_bytes(nib.Nifti1Pair, _volume()),
    ]


def gzip_seeds() -> list[dict[str, bytes]]:
    """Packed NIfTI and MGH."""
    plain = _image_bytes(nib.Nifti1Image, _volume())["scan.nii"]
    return [{"scan.nii.gz": gzip.compress(plain, 1)}, mgh_seeds()[0]]


def mgh_seeds() -> list[dict[str, bytes]]:
    """MGZ and MGH."""
    packed = _image_bytes(nib.MGHImage, _volume(np.float32))["scan.mgz"]
    return [{"scan.mgz": packed}, {"scan.mgh": gzip.decompress(packed)}]


def analyze_seeds() -> list[dict[str, bytes]]:
    """Analyze pairs."""
    return [_image_bytes(nib.Spm2AnalyzeImage, _volume())]


def read_any_scan(folder: Path) -> object:
    """Read the scan in a folder as `predict` would."""
    names = sorted(path.name for path in folder.iterdir())
    return read_scan(folder / next((n for n in names if n.endswith(".img")), names[0]))


def dicom_seeds() -> list[dict[str, bytes]]:
    """A zip with one series of few slices."""
    with TemporaryDirectory() as folder:
        files = write_series(Path(folder) / "s", make_head((8, 9, 21), 9.0))
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                archive.write(path, path.name)
        return [{"scan.zip": stream.getvalue()}, {"scan.dcm": files[0].read_bytes()}]


def table_seeds() -> list[dict[str, bytes]]:
    """Cohort tables as people write them."""
    texts = [
        "id,age,sex,path\na,30,F,a.nii\nb,41.5,M,b.nii\n",
        "participant_id\tage\tsite\tpath\nsub-1\t89+\tA\tx.nii.gz\nsub-2\tn/a\tB\ty.nii.gz\n",
        'ID;Alter;Datei\n"a;1";30,5;"a ""b"".nii"\nb;31;b.nii\n',
    ]
    return [{"cohort.csv": text.encode()} for text in texts] + [
        {"cohort.csv": texts[0].encode("utf-16")}
    ]


def read_table_file(folder: Path) -> object:
    """Read the table and keep rows by a condition."""
    return read_cohort(folder / "cohort.csv", where="age == age and age < 50", skip_bad=True)


def yaml_seeds() -> list[dict[str, bytes]]:
    """All presets of brain age."""
    folder = config_folder() / "brain_age"
    return [{"config.yaml": (folder / f"{name}.yaml").read_bytes()} for name in preset_names()]


def bundle_seeds() -> list[dict[str, bytes]]:
    """A small bundle."""
    config = make_config("cnn3d_light", blocks=2, workers_per_block=2)
    with TemporaryDirectory() as folder:
        save_bundle(Path(folder), build_model(config), config, {"metrics": {"mae_years": 5.0}})
        return [{p.name: p.read_bytes() for p in Path(folder).iterdir() if p.is_file()}]


def sign(files: dict[str, bytes]) -> dict[str, bytes]:
    """Write right hashes into a bundle's manifest, if it is still readable."""
    try:
        manifest = json.loads(files["manifest.json"])
        manifest["sha256"] = {name: sha256_bytes(files[name]) for name in manifest["sha256"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        return files
    return files | {"manifest.json": json.dumps(manifest).encode()}


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


def jpeg_seeds() -> list[dict[str, bytes]]:
    """CIFAR-10 as arrays of JPEG bytes."""
    rng = np.random.default_rng(0)

    def part(count: int) -> bytes:
        images = []
        for _ in range(count):
            stream = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(stream, "JPEG")
            images.append(stream.getvalue())
        offsets = np.cumsum([0, *map(len, images)])
        stream = io.BytesIO()
        jpeg = np.frombuffer(b"".join(images), np.uint8)
        np.savez(stream, jpeg=jpeg, offsets=offsets, labels=np.arange(count) % 10)
        return stream.getvalue()

    return [{"train.npz": part(4), "test.npz": part(2)}]


def _load_set(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        data = load_images(name, folder)
        return [part.load(np.arange(len(part.labels))) for part in (data.train, data.test)]

    return read


TARGETS: dict[str, Target] = {
    "nifti": Target(nifti_seeds, read_any_scan),
    "gzip": Target(gzip_seeds, read_any_scan),
    "mgh": Target(mgh_seeds, read_any_scan),
    "analyze": Target(analyze_seeds, read_any_scan),
    "dicom": Target(dicom_seeds, read_any_scan),
    "table": Target(table_seeds, read_table_file),
    "yaml": Target(yaml_seeds, lambda folder: load_config(folder / "config.yaml")),
    "bundle": Target(bundle_seeds, load_bundle),
    "signed_bundle": Target(bundle_seeds, load_bundle, sign),
    "idx": Target(idx_seeds, _load_set("mnist")),
    "cifar": Target(cifar_seeds, _load_set("cifar10")),
    "jpeg": Target(jpeg_seeds, _load_set("cifar10")),
}
