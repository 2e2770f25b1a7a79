"""Downloads of public image data sets: on request, resumed where they broke off, and checked."""

import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brainage.download import Progress, download
from brainage.errors import ConfigError, ImageDataError


@dataclass(frozen=True)
class RemoteFile:
    """A file on a public server.

    Attributes
    ----------
    url : str
        Where it lies.
    md5 : str
        Digest that its publishers state. It guards against damage, not against an attacker.
    """

    url: str
    md5: str

    @property
    def name(self) -> str:
        """Name on disk."""
        return self.url.rsplit("/", 1)[-1]


def _idx_files(base: str, md5s: tuple[str, str, str, str]) -> tuple[RemoteFile, ...]:
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        RemoteFile(f"{base}/{part}-ubyte.gz", md5) for part, md5 in zip(parts, md5s, strict=True)
    )


SOURCES: dict[str, tuple[RemoteFile, ...]] = {
    "mnist": _idx_files(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "fashion_mnist": _idx_files(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "cifar10": (
        RemoteFile(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
        ),
    ),
    "cifar100": (
        RemoteFile(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
        ),
    ),
    "tiny_imagenet": (
        RemoteFile(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"
        ),
    ),
}


def fetch_dataset(
    name: str,
    data_root: Path,
    *,
    sources: Mapping[str, tuple[RemoteFile, ...]] = SOURCES,
    on_progress: Progress | None = None,
) -> Path:
    """Download a data set into ``data_root/name``, check it, and unpack archives.

    Files that are there and right are not downloaded again.

    Parameters
    ----------
    on_progress : callable, optional
        Called with (bytes done, bytes in all) of the file under way.

    Returns
    -------
    pathlib.Path
        The folder, as `brainage.images.sets.load_images` reads it.

    Raises
    ------
    ConfigError
        If the data set has no public source.
    DownloadError
        If a download fails, or its digest is wrong.
    ImageDataError
        If an archive cannot be unpacked.
    """
    if name not in sources:
        known = ", ".join(sorted(sources))
        raise ConfigError("NAME", f"{name!r} cannot be fetched.", f"Choose one of: {known}.")
    folder = data_root / name
    for file in sources[name]:
        path = folder / file.name
        download(file.url, path, checksum=f"md5:{file.md5}", on_progress=on_progress)
        if not path.name.endswith("-ubyte.gz"):
            _unpack(path, folder)
    return folder


def _unpack(path: Path, folder: Path) -> None:
    """Unpack an archive; members that point outside the folder are refused."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:  # strips "..", drive letters and leading slashes
                archive.extractall(folder)
        else:
            with tarfile.open(path) as tar:
                tar.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, shutil.Error) as error:
        raise ImageDataError(str(path), f"cannot be unpacked ({error}).") from error
