"""Image data sets: where they lie, their facts, and from files to a training and a test part."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from brainage.config import Config
from brainage.errors import ConfigError, ImageDataError
from brainage.images.decoding import (
    FolderImages,
    check_bits,
    check_labels,
    check_same_classes,
    class_names,
    list_annotated,
    list_class_folders,
    read_cifar_binary,
    read_edge,
    read_idx,
    read_jpeg_arrays,
)
from brainage.images.sources import ArrayImages, ImageData, ImageSource


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set before it is read.

    Attributes
    ----------
    load : callable
        From its folder and these facts to its parts.
    classes : int
        Number of classes.
    input_shape : tuple of int (3,)
        Channels, height, width.
    mean, std : tuple of float
        Of each channel of the training images, values from 0 to 1.
    crop_padding, flip_probability
        Usual augmentation: see `brainage.config.ImagesConfig`.
    """

    load: Callable[[Path, "DatasetFacts"], ImageData]
    classes: int
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip_probability: float = 0.0


def load_images(
    name: str, data_root: Path, input_shape: tuple[int, int, int] | None = None
) -> ImageData:
    """Load a data set: small ones into memory, folders of images by reference.

    Parameters
    ----------
    input_shape : tuple of int (3,), optional
        Channels, height and width that images on disk are brought to; absent: the usual ones.

    Raises
    ------
    ConfigError
        If the name is unknown and no folder has it.
    ImageDataError
        If a file is missing or malformed.
    """
    facts = dataset_facts(name, data_root)
    folder = find_folder(name, data_root)
    if not folder.is_dir():
        remedy = f"Give --data-root, or download it: brainage fetch {name}."
        raise ImageDataError(str(folder), "no such folder.", remedy)
    if input_shape is not None:
        facts = replace(facts, input_shape=input_shape)
    data = facts.load(folder, facts)
    shape = data.train.load(np.arange(len(data.train.labels))[:1]).shape[1:]
    if shape != facts.input_shape:
        problem = f"{facts.input_shape} is asked for, and images of {name} are {tuple(shape)}."
        raise ConfigError("images.input_shape", problem)
    if name in DATASETS:
        for part in (data.train, data.test):
            _check_is_named(name, part, facts, folder)
    return data


def _check_is_named(name: str, part: ImageSource, facts: DatasetFacts, folder: Path) -> None:
    """Refuse another data set in files of the same names, by its classes and its brightness.

    Fewer than 1,000 images may miss a class, and their mean is no measure.
    """
    if not isinstance(part, ArrayImages) or len(part.labels) < CHECKED_FROM:
        return
    found = len(np.unique(part.labels))
    remedy = "Give that data set's folder; a set of your own wants a folder of another name."
    if found != facts.classes:
        problem = f"is not {name}: {len(part.labels)} images have {found} of its {facts.classes}"
        raise ImageDataError(str(folder), f"{problem} classes.", remedy)
    counts = [np.bincount(channel.ravel(), minlength=256) for channel in part.images.swapaxes(0, 1)]
    share, value = np.array(counts) / part.images[:, 0].size, np.arange(256) / 255.0
    mean = share @ value
    std = np.sqrt(share @ value**2 - mean**2)
    off = np.abs([mean - np.array(facts.mean), std - np.array(facts.std)]).max()
    if not off < BRIGHTNESS_TOLERANCE:
        problem = f"is not {name}: mean and deviation of its images are {mean.round(3)} and "
        problem += f"{std.round(3)}, where {facts.mean} and {facts.std} are known."
        raise ImageDataError(str(folder), problem, remedy)


def find_folder(name: str, data_root: Path) -> Path:
    """Folder of a data set: named as here, or as its publishers unpack it, or the root itself.

    Returns
    -------
    pathlib.Path
        The first place that holds the data set's training part; `data_root/name` where none does.
    """
    places = [data_root / place for place in (name, *USUAL_PLACES.get(name, ()), ".")]
    markers = MARKERS.get(name, ())
    found = (p for p in places if any((p / marker).exists() for marker in markers))
    return next(found, data_root / name)


def dataset_facts(name: str, data_root: Path | None = None) -> DatasetFacts:
    """Facts of a data set: known ones by name, one's own read from its folder.

    Raises
    ------
    ConfigError
        If the name is unknown and no folder has it.
    ImageDataError
        If one's own data set cannot be read.
    """
    if name in DATASETS:
        return DATASETS[name]
    if data_root is not None and name and (data_root / name).is_dir():
        return _own_facts(data_root / name)
    known = ", ".join(sorted(DATASETS))
    remedy = f"Choose: {known}; or a folder of --data-root with class folders in train and val."
    raise ConfigError("images.dataset", f"unknown data set {name!r}.", remedy)


def resolve_images(config: Config, data_root: Path | None = None) -> Config:
    """Fill what the settings leave open from the data set's facts.

    Raises
    ------
    ConfigError
        If no data set is named, or it is unknown.
    ImageDataError
        If one's own data set cannot be read.
    """
    images = config.images
    if images is None:
        raise ConfigError("images", "no image data set is named.", "Give images.dataset.")
    missing = [name for name in FACTS if getattr(images, name) is None]
    if not missing and images.dataset not in DATASETS and config.target.classes is not None:
        return config
    facts = dataset_facts(images.dataset, data_root)
    target = config.target.model_copy(update={"classes": facts.classes})
    images = images.model_copy(update={name: getattr(facts, name) for name in missing})
    return config.model_copy(update={"images": images, "target": target})


def _own_facts(folder: Path) -> DatasetFacts:
    """Facts of a data set without a name of ours, from its files.

    Idx files tell shape, classes, mean and deviation. Folders of images give one class each;
    images are brought to a square whose edge is the median of 100 images' shorter edges, rounded
    down to a multiple of 32 from 32 to 224; mean and deviation are ImageNet's.
    """
    if any((folder / marker).exists() for marker in MARKERS["mnist"]):
        images = read_idx(_idx_path(folder, "train-images-idx3-ubyte"))
        labels = read_idx(_idx_path(folder, "train-labels-idx1-ubyte"))
        if images.ndim != 3 or labels.shape != images.shape[:1] or not images.size:
            problem = f"images {images.shape} and labels {labels.shape} do not fit."
            raise ImageDataError(str(folder), problem)
        if not labels.any():
            raise ImageDataError(str(folder), "all labels are 0: expected two classes at least.")
        scaled = images[:: max(1, len(images) // 10_000)] / 255.0
        moments = (float(scaled.mean()),), (float(scaled.std()) or 1.0,)
        shape = (1, images.shape[1], images.shape[2])
        return DatasetFacts(_load_idx, int(labels.max()) + 1, shape, *moments)
    if not (folder / "train").is_dir():
        remedy = "Make train and val (or test), with one folder a class in each."
        problem = "holds neither train-images-idx3-ubyte[.gz] nor a folder train."
        raise ImageDataError(str(folder), problem, remedy)
    classes = len(class_names(folder / "train"))
    if classes < 2:
        problem = f"expected class folders, two at least, got {classes}."
        raise ImageDataError(str(folder / "train"), problem)
    edge = _usual_edge(list_class_folders(folder / "train", (32, 32), classes))
    facts = DATASETS["imagenet"]
    return DatasetFacts(_load_own, classes, (3, edge, edge), facts.mean, facts.std, edge // 8, 0.5)


def _usual_edge(images: FolderImages) -> int:
    edge = np.median([read_edge(path) for path in _some_paths(images)])
    return int(np.clip(edge // 32 * 32, 32, 224))


def _some_paths(images: FolderImages) -> tuple[Path, ...]:
    return images.paths[:: max(1, len(images.paths) // 100)]


def _load_idx(folder: Path, facts: DatasetFacts) -> ImageData:
    def load(part: str) -> ArrayImages:
        images = read_idx(_idx_path(folder, f"{part}-images-idx3-ubyte"))
        path = _idx_path(folder, f"{part}-labels-idx1-ubyte")
        labels = read_idx(path)
        if images.shape[1:] != facts.input_shape[1:] or labels.shape != images.shape[:1]:
            problem = f"images {images.shape} and labels {labels.shape} do not fit."
            raise ImageDataError(str(path), problem)
        check_labels(labels, facts.classes, path)
        return ArrayImages(images[:, None], labels.astype(np.int64))

    return ImageData(load("train"), load("t10k"))


def _idx_path(folder: Path, name: str) -> Path:
    """Find the file, packed or not, also as train-images.idx3-ubyte."""
    dotted = name.replace("-idx", ".idx")
    tried = [folder / f"{stem}{end}" for stem in (name, dotted) for end in (".gz", "")]
    return next((path for path in tried if path.exists()), folder / name)


def _load_cifar(folder: Path, facts: DatasetFacts) -> ImageData:
    if (folder / "train.npz").exists():
        size = (facts.input_shape[1], facts.input_shape[2])
        parts = [
            ArrayImages(*read_jpeg_arrays(folder / f"{part}.npz", size, facts.classes))
            for part in ("train", "test")
        ]
        return ImageData(*parts)
    if facts.classes == 10:
        files = [f"data_batch_{n}.bin" for n in range(1, 6)], ["test_batch.bin"]
        inner, label_bytes = folder / CIFAR10, 1
    else:
        files, inner, label_bytes = (["train.bin"], ["test.bin"]), folder / "cifar-100-binary", 2
    place = inner if inner.is_dir() else folder
    _refuse_pickles(folder, place / files[0][0])
    parts = [
        ArrayImages(*read_cifar_binary([place / n for n in names], label_bytes, facts.classes))
        for names in files
    ]
    return ImageData(*parts)


def _refuse_pickles(folder: Path, wanted: Path) -> None:
    """Refuse the Python version of CIFAR: pickles may hold any program and are never loaded."""
    folders = [name for name in PICKLED if (folder / name).is_dir()]
    files = [name for name in ("data_batch_1", "train") if (folder / name).is_file()]
    if folders + files and not wanted.exists():
        problem = f"{(folders + files)[0]} is the Python version: pickles, which may hold programs."
        raise ImageDataError(str(folder), problem, "Put the binary version there.")


def _load_own(folder: Path, facts: DatasetFacts) -> ImageData:
    """Test on `test` where it has classes, as its name says, and on `val` where there is none."""
    test = folder / "test"
    held_out = "test" if test.is_dir() and class_names(test) else "val"
    data = _load_folders(folder, facts, held_out)
    for part in (data.train, data.test):
        assert isinstance(part, FolderImages)
        check_bits(_some_paths(part))
    return data


def _load_folders(folder: Path, facts: DatasetFacts, held_out: str = "val") -> ImageData:
    inner = folder / "tiny-imagenet-200"
    folder = inner if inner.is_dir() else folder
    for part in ("train", held_out):
        if not (folder / part).is_dir():
            raise ImageDataError(str(folder / part), "no such folder.")
    size = (facts.input_shape[1], facts.input_shape[2])
    train = list_class_folders(folder / "train", size, facts.classes)
    annotations = folder / "val" / "val_annotations.txt"
    test: FolderImages
    if annotations.exists():
        names = class_names(folder / "train")
        test = list_annotated(folder / "val" / "images", annotations, names, size)
    else:
        check_same_classes(folder / "train", folder / held_out)
        test = list_class_folders(folder / held_out, size, facts.classes)
    return ImageData(train, test)


CHECKED_FROM = 1000
BRIGHTNESS_TOLERANCE = 0.02  # 5 deviations of 1,000 images' mean; other sets are 0.04 off
CIFAR10 = "cifar-10-batches-bin"
PICKLED = ("cifar-10-batches-py", "cifar-100-python")
FACTS = ("input_shape", "mean", "std", "crop_padding", "flip_probability")

USUAL_PLACES = {
    "mnist": ("MNIST/raw", "MNIST"),
    "fashion_mnist": ("FashionMNIST/raw", "fashion-mnist", "FashionMNIST"),
    "cifar10": (CIFAR10,),
    "cifar100": ("cifar-100-binary",),
    "tiny_imagenet": ("tiny-imagenet-200",),
    "imagenet": ("ImageNet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
}
"""Folders that publishers and other tools unpack a data set to."""

_IDX = tuple(f"train-images{dot}idx3-ubyte{packed}" for dot in "-." for packed in ("", ".gz"))
MARKERS = {
    "mnist": _IDX,
    "fashion_mnist": _IDX,
    "cifar10": (
        "train.npz",
        "data_batch_1.bin",
        "cifar-10-batches-bin/data_batch_1.bin",
        PICKLED[0],
    ),
    "cifar100": ("train.npz", "train.bin", "cifar-100-binary/train.bin", PICKLED[1]),
    "tiny_imagenet": ("train", "tiny-imagenet-200/train"),
    "imagenet": ("train",),
}
"""Files or folders by which a data set's folder is known."""

DATASETS: dict[str, DatasetFacts] = {
    "mnist": DatasetFacts(_load_idx, 10, (1, 28, 28), (0.1307,), (0.3081,)),
    "fashion_mnist": DatasetFacts(_load_idx, 10, (1, 28, 28), (0.2860,), (0.3530,)),
    "cifar10": DatasetFacts(
        _load_cifar, 10, (3, 32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 4, 0.5
    ),
    "cifar100": DatasetFacts(
        _load_cifar, 100, (3, 32, 32), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 4, 0.5
    ),
    "tiny_imagenet": DatasetFacts(
        _load_folders, 200, (3, 64, 64), (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821), 8, 0.5
    ),
    "imagenet": DatasetFacts(
        _load_folders, 1000, (3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 28, 0.5
    ),
}
