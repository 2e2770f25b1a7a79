"""Image data sets: reading, refusing, splitting, batching."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from brainage.config import ImagesConfig
from brainage.errors import ConfigError, ImageDataError
from brainage.images.decoding import list_class_folders, read_idx
from brainage.images.sets import DATASETS, DatasetFacts, load_images
from brainage.images.sources import ArrayImages, split_training
from brainage.loading.images import augment, build_image_loader
from tests.small import write_mnist

RNG = np.random.default_rng(0)


def make_mnist(root: Path, packed: bool = False) -> np.ndarray:
    images = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    write_mnist(root, images, np.arange(6), packed)
    return images


def jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_as_they_were_written(tmp_path, packed):
    images = make_mnist(tmp_path, packed)
    data = load_images("mnist", tmp_path)
    assert np.array_equal(data.train.load(np.arange(6))[:, 0], images)
    assert data.test.labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_cifar_records_give_planes_and_the_fine_label(tmp_path):
    folder = tmp_path / "cifar100" / "cifar-100-binary"
    folder.mkdir(parents=True)
    records = RNG.integers(0, 256, (4, 3074), dtype=np.uint8)
    records[:, 1] = [7, 99, 0, 50]
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(records.tobytes())
    data = load_images("cifar100", tmp_path)
    assert data.train.labels.tolist() == [7, 99, 0, 50]
    red = records[1, 2 : 2 + 1024].reshape(32, 32)
    assert np.array_equal(data.train.load(np.array([1]))[0, 0], red)


def write_jpeg_arrays(root: Path, labels: list[int], cut: int = 0) -> list[np.ndarray]:
    folder = root / "cifar10"
    folder.mkdir()
    images = [np.full((32, 32, 3), 40 * n, np.uint8) for n in range(len(labels))]
    files = [jpeg(image) for image in images]
    offsets = np.cumsum([0, *map(len, files)])
    stream = np.frombuffer(b"".join(files), np.uint8)[: offsets[-1] - cut]
    for part in ("train", "test"):
        np.savez(folder / f"{part}.npz", jpeg=stream, offsets=offsets, labels=np.array(labels))
    return images


def test_jpeg_arrays_are_decoded(tmp_path):
    images = write_jpeg_arrays(tmp_path, [3, 1, 4])
    data = load_images("cifar10", tmp_path)
    assert data.train.labels.tolist() == [3, 1, 4]
    assert np.array_equal(data.train.load(np.array([2]))[0], images[2].transpose(2, 0, 1))


def write_tiny(root: Path) -> Path:
    folder = root / "tiny_imagenet" / "tiny-imagenet-200"
    for n in range(200):
        (folder / "train" / f"n{n:03}" / "images").mkdir(parents=True)
        image = np.full((64, 64, 3), n, np.uint8)
        (folder / "train" / f"n{n:03}" / "images" / "a.JPEG").write_bytes(jpeg(image))
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "val" / "images" / "v.JPEG").write_bytes(jpeg(np.zeros((64, 64), np.uint8)))
    (folder / "val" / "val_annotations.txt").write_text("v.JPEG\tn123\t0\t0\t62\t62\n")
    return folder


def test_tiny_imagenet_takes_its_test_labels_from_the_table(tmp_path):
    write_tiny(tmp_path)
    data = load_images("tiny_imagenet", tmp_path)
    assert data.train.labels.tolist() == list(range(200))
    assert data.test.labels.tolist() == [123]
    assert data.test.load(np.array([0])).shape == (1, 3, 64, 64)
    assert abs(int(data.train.load(np.array([9]))[0, 0, 5, 5]) - 9) <= 2


def test_images_of_a_folder_are_scaled_and_cut_at_the_centre(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    Image.fromarray(wide).save(tmp_path / "a" / "wide.png")
    Image.fromarray(wide).save(tmp_path / "b" / "wide.png")
    images = list_class_folders(tmp_path, (10, 10), 2)
    cut = images.load(np.array([0]))[0]
    assert cut.shape == (3, 10, 10) and (cut[:, :, 1:-1] > 250).all()


def break_length(root: Path) -> str:
    make_mnist(root)
    path = root / "mnist" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    return "mnist"


def break_gzip(root: Path) -> str:
    make_mnist(root, packed=True)
    path = root / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    return "mnist"


def break_record(root: Path) -> str:
    folder = root / "cifar10"
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes(bytes(3074))
    return "cifar10"


def break_label(root: Path) -> str:
    write_jpeg_arrays(root, [3, 10])
    return "cifar10"


def break_offsets(root: Path) -> str:
    write_jpeg_arrays(root, [3, 1], cut=5)
    return "cifar10"


def break_pickle(root: Path) -> str:
    (root / "cifar10").mkdir()
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(root / "cifar10" / "train.npz", jpeg=objects, offsets=objects, labels=objects)
    return "cifar10"


def break_annotation(root: Path) -> str:
    (write_tiny(root) / "val" / "val_annotations.txt").write_text("v.JPEG\tn999\n")
    return "tiny_imagenet"


def break_folders(root: Path) -> str:
    for part in ("train", "val"):
        (root / "imagenet" / part / "n01").mkdir(parents=True)
    return "imagenet"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_length, "4704 bytes, but 4703 follow"),
        (break_gzip, "train-images.*cannot be read as idx"),
        (break_record, "3074 bytes are not whole records of 3073"),
        (break_label, "label 10 of image 1 is not in 0 to 9"),
        (break_offsets, "do not fit"),
        (break_pickle, "does not hold the arrays"),
        (break_annotation, "line 1 names an unknown class"),
        (break_folders, "expected 1000 class folders, got 1"),
        (lambda root: "cifar10", "no such folder.*brainage fetch cifar10"),
    ],
)
def test_damaged_data_are_refused_in_one_line(tmp_path, damage, message):
    with pytest.raises(ImageDataError, match=message) as caught:
        load_images(damage(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_idx_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"hello, world")
    with pytest.raises(ImageDataError, match="not an idx file"):
        read_idx(tmp_path / "x")


def test_a_damaged_image_in_a_folder_is_named(tmp_path):
    write_tiny(tmp_path)
    data = load_images("tiny_imagenet", tmp_path)
    data.train.paths[7].write_bytes(b"no image")
    with pytest.raises(ImageDataError, match=r"n007/images/a.JPEG: is not a readable image"):
        data.train.load(np.array([6, 7]))


def test_unknown_data_set_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"cifar10.*mnist"):
        load_images("mnist2", tmp_path)


def test_a_data_set_is_found_where_others_unpack_it(tmp_path):
    images = make_mnist(tmp_path)
    (tmp_path / "mnist").rename(tmp_path / "raw")
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "raw").rename(tmp_path / "MNIST" / "raw")
    for root in (tmp_path, tmp_path / "MNIST" / "raw"):
        assert len(load_images("mnist", root).train.labels) == len(images)


def make_images(**changes) -> ImagesConfig:
    return ImagesConfig.model_validate(
        {"dataset": "test", "mean": (0.5,), "std": (0.25,), "validation_fraction": 0.25} | changes
    )


@pytest.mark.parametrize("limit", [None, 12])
def test_parts_of_a_split_are_disjoint_and_balanced(limit):
    labels = np.repeat(np.arange(4), 20)
    train, validation = split_training(labels, make_images(train_limit=limit), seed=3)
    assert not set(train) & set(validation)
    assert np.bincount(labels[train]).tolist() == [15 if limit is None else 3] * 4
    assert np.bincount(labels[validation]).tolist() == [5] * 4
    again, _ = split_training(labels, make_images(train_limit=limit), seed=3)
    assert np.array_equal(train, again)


def test_too_few_images_of_a_class_are_refused():
    with pytest.raises(ImageDataError, match="cannot be split"):
        split_training(np.array([0, 0, 0, 1]), make_images(), seed=0)


def make_source(count: int = 7) -> ArrayImages:
    images = (
        np.zeros((count, 1, 4, 5), np.uint8) + np.arange(count, dtype="u1")[:, None, None, None]
    )
    return ArrayImages(images, np.arange(count))


def test_batches_are_normalised_and_stay_with_their_labels():
    loader = build_image_loader(
        make_source(), np.array([1, 3, 5, 6]), make_images(), 3, torch.Generator().manual_seed(0)
    )
    batches = list(loader)
    assert [len(batch["target"]) for batch in batches] == [3]  # the batch of one is left out
    batch = batches[0]
    assert batch["inputs"].dtype == torch.float32 and batch["inputs"].shape == (3, 1, 4, 5)
    values = (batch["target"] / 255 - 0.5) / 0.25
    torch.testing.assert_close(batch["inputs"][:, 0, 2, 2], values)
    assert batch["target"].tolist() == [[1, 3, 5, 6][i] for i in batch["index"]]


def test_without_shuffling_every_image_comes_once_in_order():
    loader = build_image_loader(make_source(), np.arange(7), make_images(), 3)
    assert len(loader) == 3
    assert torch.cat([batch["index"] for batch in loader]).tolist() == list(range(7))


def test_the_generator_alone_decides_the_order():
    def order(seed: int) -> list[int]:
        shuffle = torch.Generator().manual_seed(seed)
        loader = build_image_loader(make_source(50), np.arange(50), make_images(), 10, shuffle)
        return torch.cat([batch["index"] for batch in loader]).tolist()

    assert order(1) == order(1) != order(2)


def test_a_crop_is_a_window_of_the_padded_image():
    torch.manual_seed(0)
    pixels = torch.randint(1, 256, (60, 2, 6, 5), dtype=torch.uint8)
    cropped = augment(pixels, make_images(crop_padding=2))
    padded = torch.nn.functional.pad(pixels, [2] * 4)
    shifts = set()
    for image, result in zip(padded, cropped, strict=True):
        places = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if torch.equal(image[:, i : i + 6, j : j + 5], result)
        ]
        assert len(places) == 1
        shifts.update(places)
    assert {i for i, _ in shifts} == {j for _, j in shifts} == set(range(5))


def test_flips_turn_about_the_asked_share_of_images():
    torch.manual_seed(0)
    pixels = torch.arange(6, dtype=torch.uint8).expand(400, 1, 2, 6)
    flipped = augment(pixels, make_images(flip_probability=0.25))[:, 0, 0, 0] == 5
    assert 0.18 < flipped.float().mean() < 0.32


def test_a_smaller_window_is_cut_at_random_in_training_and_from_the_centre_elsewhere():
    torch.manual_seed(0)
    pixels = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(200, 1, 8, 8)
    cropped = augment(pixels, make_images(crop_size=5))
    starts = {int(image[0, 0, 0]) for image in cropped}
    assert cropped.shape == (200, 1, 5, 5)
    assert starts == {8 * i + j for i in range(4) for j in range(4)}
    source = ArrayImages(pixels[:3].numpy(), np.arange(3))
    (batch,) = build_image_loader(source, np.arange(3), make_images(crop_size=4), 3)
    assert (batch["inputs"][:, 0, 0, 0] * 0.25 + 0.5).mul(255).round().tolist() == [18] * 3


def test_resized_windows_hold_a_part_of_the_image_and_its_colours():
    torch.manual_seed(0)
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(300, 1, 32, 32)
    cropped = augment(ramp, make_images(min_crop_area=0.25, crop_size=16))
    assert cropped.shape == (300, 1, 16, 16)
    spans = (cropped[:, 0, 0, -1].int() - cropped[:, 0, 0, 0].int()) / (31 * 8)
    # Sides are at least 0.5 · sqrt(3/4) of the image; the outer pixel's half is not seen.
    assert 0.38 < spans.min() < 0.55 and spans.max() > 0.9
    assert (cropped[:, 0, 1:] == cropped[:, 0, :1]).all()


def test_an_elastic_distortion_moves_pixels_smoothly_and_by_a_little():
    torch.manual_seed(0)
    ramp = torch.arange(28).mul(9).to(torch.uint8).expand(50, 1, 28, 28)
    distorted = augment(ramp, make_images(elastic_alpha=34.0, elastic_sigma=4.0))
    moved = (distorted.float() - ramp.float())[:, 0, 6:-6, 6:-6] / 9
    assert 0.3 < moved.std() < 3.0 and moved.diff(dim=2).abs().mean() < 0.35
    assert torch.equal(augment(ramp, make_images()), ramp)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"elastic_alpha": 3.0}, "go together"),
        ({"min_crop_area": 0.5, "crop_padding": 4}, "one of them"),
        ({"input_shape": (1, 8, 8), "crop_size": 9}, "exceeds"),
    ],
)
def test_windows_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_images(**changes)


def test_without_a_validation_part_every_image_trains():
    train, validation = split_training(
        np.repeat(np.arange(4), 5), make_images(validation_fraction=0.0), 0
    )
    assert train.tolist() == list(range(20)) and len(validation) == 0


def test_facts_have_a_mean_and_a_deviation_for_each_channel():
    for facts in DATASETS.values():
        assert len(facts.mean) == len(facts.std) == facts.input_shape[0]


def has_the_facts(sample: np.ndarray, facts: DatasetFacts) -> None:
    assert (sample / 255).mean((0, 2, 3)) == pytest.approx(facts.mean, abs=0.01)
    assert (sample / 255).std((0, 2, 3)) == pytest.approx(facts.std, abs=0.01)


def test_mnist_has_the_facts_mean_and_deviation(data_root):
    data = load_images("mnist", data_root)
    assert (len(data.train.labels), len(data.test.labels)) == (60000, 10000)
    has_the_facts(data.train.load(np.arange(0, 60000, 10)), DATASETS["mnist"])


def test_cifar10_has_the_facts_mean_and_deviation(data_root, tmp_path):
    # Every 25th image: decoding all 60,000 takes twelve seconds.
    (tmp_path / "cifar10").mkdir()
    for part, count in (("train", 50000), ("test", 10000)):
        with np.load(data_root / "cifar10" / f"{part}.npz") as file:
            stream, offsets, labels = file["jpeg"], file["offsets"], file["labels"]
        assert len(labels) == count
        images = [stream[offsets[n] : offsets[n + 1]] for n in range(0, count, 25)]
        np.savez(
            tmp_path / "cifar10" / f"{part}.npz",
            jpeg=np.concatenate(images),
            offsets=np.cumsum([0, *map(len, images)]),
            labels=labels[::25],
        )
    data = load_images("cifar10", tmp_path)
    has_the_facts(data.train.load(np.arange(2000)), DATASETS["cifar10"])
