"""Image data sets that are not what they are called."""

import numpy as np
import pytest

from brainage.errors import ImageDataError
from brainage.images.sets import load_images
from tests.small import write_mnist

LABELS = np.arange(1000) % 10


def images_of(share_white: float) -> np.ndarray:
    """1,000 images of black and white: 0.109 white has MNIST's mean and deviation."""
    images = np.zeros((1000, 784), np.uint8)
    images[:, : round(784 * share_white)] = 255
    return images.reshape(-1, 28, 28)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_files_of_another_data_set_under_the_same_names_are_refused(tmp_path, name):
    folder = write_mnist(tmp_path, images_of(0.5), LABELS)
    with pytest.raises(ImageDataError, match=f"is not {name}: mean"):
        load_images(name, folder)


def test_the_named_set_is_not_taken_for_its_neighbour(tmp_path):
    folder = write_mnist(tmp_path, images_of(0.12), LABELS)
    assert len(load_images("mnist", folder).train.labels) == 1000
    with pytest.raises(ImageDataError, match="is not fashion_mnist"):
        load_images("fashion_mnist", folder)


def test_a_named_set_without_some_of_its_classes_is_refused(tmp_path):
    folder = write_mnist(tmp_path, images_of(0.12), LABELS % 9)
    with pytest.raises(ImageDataError, match="9 of its 10 classes"):
        load_images("mnist", folder)


def test_few_images_are_not_judged(tmp_path):
    folder = write_mnist(tmp_path, images_of(0.5)[:999], LABELS[:999] % 9)
    assert len(load_images("mnist", folder).test.labels) == 999
