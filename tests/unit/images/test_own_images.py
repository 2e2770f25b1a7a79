"""Image data sets of one's own, and files that are refused."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainage.errors import ConfigError, ImageDataError
from brainage.images.decoding import list_class_folders, read_idx
from brainage.images.sets import load_images, resolve_images
from brainage.images.sources import (
    ArrayImages,
    ImageData,
    count_shared,
    describe_lacking_classes,
)
from tests.small import make_image_config, write_mnist


def write_own_folders(root: Path, held_out: str) -> None:
    for part in ("train", held_out):
        for number, name in enumerate(("cat", "dog", "eel")):
            (root / "pets" / part / name).mkdir(parents=True)
            image = np.full((70, 100, 3), 40 * number, np.uint8)
            Image.fromarray(image).save(root / "pets" / part / name / "a.png")


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_ones_own_class_folders_are_a_data_set(tmp_path, held_out):
    write_own_folders(tmp_path, held_out)
    data = load_images("pets", tmp_path)
    assert data.test.labels.tolist() == [0, 1, 2]
    assert data.test.load(np.array([2])).shape == (1, 3, 64, 64)
    config = resolve_images(make_image_config("mlp", images={"dataset": "pets"}), tmp_path)
    assert config.target.classes == 3 and config.images.input_shape == (3, 64, 64)
    assert resolve_images(config) == config


def test_the_test_folder_is_the_test_where_there_is_a_val_too(tmp_path):
    write_own_folders(tmp_path, "val")
    shutil.copytree(tmp_path / "pets" / "val", tmp_path / "pets" / "test")
    shutil.copy(tmp_path / "pets/test/cat/a.png", tmp_path / "pets/test/cat/b.png")
    test = load_images("pets", tmp_path).test
    assert test.labels.tolist() == [0, 0, 1, 2] and test.names == ("cat", "dog", "eel")
    for name in test.names:
        shutil.rmtree(tmp_path / "pets" / "test" / name)
    assert load_images("pets", tmp_path).test.labels.tolist() == [0, 1, 2]  # val: no classes there


def test_other_pixels_in_files_of_the_same_names_and_sizes_are_other_data(tmp_path):
    path = tmp_path / "a" / "1.bmp"
    path.parent.mkdir()
    hashes = set()
    for brightness in (10, 200):
        Image.new("RGB", (8, 8), (brightness,) * 3).save(path)
        hashes.add(list_class_folders(tmp_path, (8, 8), 1).content_hash())
    assert len(hashes) == 2  # else --resume would test weights of the one on the other


def test_test_images_that_are_training_images_are_counted(tmp_path):
    write_own_folders(tmp_path, "val")
    Image.new("RGB", (70, 100)).save(tmp_path / "pets" / "val" / "cat" / "a.png")
    assert count_shared(load_images("pets", tmp_path)) == 2
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)
    train = ArrayImages(images[:4], np.arange(4))
    assert count_shared(ImageData(train, ArrayImages(images[3:], np.arange(3)))) == 1


def test_an_input_shape_that_the_images_have_not_is_refused(tmp_path):
    write_own_folders(tmp_path, "val")
    with pytest.raises(ConfigError, match=r"\(1, 32, 32\) is asked for, .* are \(3, 32, 32\)"):
        load_images("pets", tmp_path, (1, 32, 32))


@pytest.mark.parametrize("part", ["train", "val"])
def test_pixels_of_12_bits_in_16_are_refused(tmp_path, part):
    write_own_folders(tmp_path, "val")
    for path in (tmp_path / "pets" / part).rglob("*.png"):
        Image.fromarray(np.full((70, 100), 4095, np.uint16)).save(path)
    with pytest.raises(ImageDataError, match="up to 4095 alone"):
        load_images("pets", tmp_path)


def spoil_own_folders(folder: Path, damage: str) -> None:
    if damage == "other names":
        (folder / "val" / "eel").rename(folder / "val" / "elk")
    elif damage == "no image":
        (folder / "train" / "eel" / "a.png").rename(folder / "train" / "eel" / "a.raw")
    elif damage == "one class":
        for name in ("cat", "dog"):
            (folder / "train" / name).rename(folder / name)
    else:
        (folder / "train" / "cat" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n junk")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("other names", r"val: its class folders are not those of train: eel, elk differ"),
        ("no image", r"train/eel: holds no images \(\.jpeg"),
        ("one class", r"train: expected class folders, two at least, got 1"),
        ("broken", r"train/cat/a\.png: is not a readable image"),
    ],
)
def test_class_folders_that_fit_not_together_are_refused(tmp_path, damage, message):
    write_own_folders(tmp_path, "val")
    spoil_own_folders(tmp_path / "pets", damage)
    with pytest.raises(ImageDataError, match=message):
        load_images("pets", tmp_path)


def test_hidden_folders_and_files_are_no_classes_and_no_images(tmp_path):
    write_own_folders(tmp_path, "val")
    (tmp_path / "pets" / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "pets" / "train" / "cat" / "._a.png").write_bytes(b"\0\5\x16\7")
    assert load_images("pets", tmp_path).train.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("pixels", "name"),
    [
        (np.array([[0, 0x1234], [0x8000, 0xFFFF]], np.uint16), "a.png"),
        (np.array([[0, 0x12], [0x80, 0xFF]], np.uint8), "a.bmp"),
        (np.array([[0, 0x1234], [0x8000, 0xFFFF]], np.int32), "a.tif"),
        (np.dstack([np.array([[0, 0x12], [0x80, 0xFF]], np.uint8)] * 4), "a.png"),
    ],
    ids=["16-bit PNG", "BMP", "32-bit TIFF", "RGBA"],
)
def test_bits_and_channels_of_a_file_change_no_brightness(tmp_path, pixels, name):
    (tmp_path / "x").mkdir()
    Image.fromarray(pixels).save(tmp_path / "x" / name)
    (image,) = list_class_folders(tmp_path, (2, 2), 1).load(np.array([0]))
    assert image.tolist() == [[[0, 0x12], [0x80, 0xFF]]] * 3


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (40, 255), (255, 0)])
def test_a_drawing_that_lies_in_the_transparency_alone_is_seen(tmp_path, ink, ground):
    (tmp_path / "x").mkdir()
    pixels = np.full((2, 2, 4), ink, np.uint8)
    pixels[..., 3] = [[0, 255], [255, 0]]
    Image.fromarray(pixels).save(tmp_path / "x" / "a.png")
    (image,) = list_class_folders(tmp_path, (2, 2), 1).load(np.array([0]))
    assert image.tolist() == [[[ground, ink], [ink, ground]]] * 3


def test_photographs_are_turned_as_their_exif_says(tmp_path):
    (tmp_path / "x").mkdir()
    picture = Image.fromarray(np.array([[0, 0], [255, 255]], np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    picture.save(tmp_path / "x" / "a.png", exif=exif)
    (image,) = list_class_folders(tmp_path, (2, 2), 1).load(np.array([0]))
    assert image[0].tolist() == [[255, 0], [255, 0]]


def test_floating_point_pixels_are_refused(tmp_path):
    (tmp_path / "x").mkdir()
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "x" / "a.tif")
    with pytest.raises(ImageDataError, match="floating-point pixels"):
        list_class_folders(tmp_path, (2, 2), 1).load(np.array([0]))


@pytest.mark.parametrize(
    ("name", "file"),
    [("cifar10", "cifar-10-batches-py/data_batch_1"), ("cifar10", "cifar10/data_batch_1"),
     ("cifar100", "cifar-100-python/train"), ("cifar100", "cifar100/train")],
)  # fmt: skip
def test_pickles_of_cifar_are_never_loaded(tmp_path, name, file):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(ImageDataError, match=r"Python version: pickles.*binary version"):
        load_images(name, tmp_path)


def test_a_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("brainage.images.decoding._MOST_BYTES", 2**20)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(2**22)))
    with pytest.raises(ImageDataError, match="unpacks to more than"):
        read_idx(path)


@pytest.mark.parametrize(
    ("labels", "message"), [([], "do not fit"), ([0] * 6, "two classes at least")]
)
def test_ones_own_idx_files_need_a_label_an_image_and_two_classes(tmp_path, labels, message):
    write_mnist(tmp_path, np.zeros((6, 28, 28), np.uint8), np.array(labels, np.uint8))
    (tmp_path / "mnist").rename(tmp_path / "kana")
    with pytest.raises(ImageDataError, match=message):
        load_images("kana", tmp_path)


def test_ones_own_idx_files_are_a_data_set(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    write_mnist(tmp_path, images, np.arange(6))
    (tmp_path / "mnist").rename(tmp_path / "kana")
    config = resolve_images(make_image_config("mlp", images={"dataset": "kana"}), tmp_path)
    assert config.target.classes == 6 and config.images.input_shape == (1, 28, 28)
    assert config.images.mean == pytest.approx((images.mean() / 255,))


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    (tmp_path / "pets").mkdir()
    with pytest.raises(ImageDataError, match=r"neither train-images.* nor a folder train"):
        load_images("pets", tmp_path)


@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        ([0, 1, 3], [0, 2, 2, 3], "2 of 4 test images are of classes that no training image has"),
        ([0, 1, 2], [1, 1], "test images have 1 of the 3 classes"),
        ([1, 2, 3], [3, 2, 1], ""),
    ],
)
def test_classes_that_one_part_lacks_are_told(train, test, told):
    parts = (
        ArrayImages(np.zeros((len(labels), 1, 4, 4), np.uint8), np.array(labels))
        for labels in (train, test)
    )
    found = describe_lacking_classes(ImageData(*parts))
    assert told in found and bool(told) == bool(found)
