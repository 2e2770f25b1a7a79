"""Settings of image data sets: which, what the network sees of an image, how it is augmented."""

from typing import Annotated

from pydantic import Field, model_validator

from brainage.config.values import LATER, Probability, Settings


class ImagesConfig(Settings):
    """An image data set, how it is augmented, and what is kept for validation.

    What is absent is filled from the data set's facts (`brainage.images.sets.DATASETS`).

    Attributes
    ----------
    dataset : str
        Name of the data set.
    input_shape : tuple of int (3,), optional
        Channels, height and width.
    mean, std : tuple of float, optional
        Of each channel, of values from 0 to 1; they normalise the input.
    crop_padding : int, optional
        Pixels of zeros around a training image, of which a random window is cut.
    flip_probability : float, optional
        For a left-right flip of a training image.
    crop_size : int, optional
        Edge of a random window of a training image (of the padded one), and of the central
        window of any other image: what the network sees.
    min_crop_area : float
        Cut a training image's window at random, of an area from this share to the whole and of
        sides 3:4 to 4:3, and resize it to what the network sees (Szegedy et al. 2015); 0: never.
    elastic_alpha, elastic_sigma : float
        Elastic distortion of training images (Simard et al. 2003): displacements drawn from −1
        to 1, smoothed by a Gaussian of sigma pixels, times alpha pixels.
    validation_fraction : float
        Share of the training images that are set aside to choose the epoch; 0: none, then
        `training.keep` is `last`.
    train_limit : int, optional
        Use only so many training images, class-balanced: a reduced run.
    """

    dataset: str
    input_shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0.0)], ...] | None = None
    crop_padding: Annotated[int, Field(ge=0, le=64)] | None = None
    flip_probability: Probability | None = None
    crop_size: Annotated[Annotated[int, Field(ge=4, le=1024)] | None, LATER] = None
    min_crop_area: Annotated[Probability, LATER] = 0.0
    elastic_alpha: Annotated[float, Field(ge=0.0, le=200.0), LATER] = 0.0
    elastic_sigma: Annotated[float, Field(ge=0.0, le=20.0), LATER] = 0.0
    validation_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    train_limit: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _check_windows(self) -> "ImagesConfig":
        if (self.elastic_alpha > 0) != (self.elastic_sigma > 0):
            raise ValueError("elastic_alpha and elastic_sigma go together")
        if self.min_crop_area and self.crop_padding:
            raise ValueError("min_crop_area and crop_padding: give one of them")
        if None not in (self.crop_size, self.input_shape):
            edge = min(self.input_shape[1:])  # type: ignore[index]
            if self.crop_size > edge + 2 * (self.crop_padding or 0):  # type: ignore[operator]
                raise ValueError(f"crop_size {self.crop_size} exceeds an image of {edge} pixels")
        return self
