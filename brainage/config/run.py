"""A complete run, and the rules that join its parts."""

from typing import Literal

from pydantic import model_validator

from brainage.config.image_data import ImagesConfig
from brainage.config.sections import (
    AugmentationConfig,
    InferenceConfig,
    LearningConfig,
    NetworkConfig,
    PreprocessingConfig,
    SplitConfig,
    TargetConfig,
    TrainingConfig,
)
from brainage.config.values import Seed, Settings
from brainage.errors import ConfigError


class Config(Settings):
    """A complete run. `configs/**.yaml` are such files.

    Attributes
    ----------
    images : ImagesConfig, optional
        Present when images are classified; absent when ages are predicted from scans.
    """

    images: ImagesConfig | None = None
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    target: TargetConfig = TargetConfig()
    network: NetworkConfig
    learning: LearningConfig = LearningConfig()
    training: TrainingConfig = TrainingConfig()
    split: SplitConfig = SplitConfig()
    inference: InferenceConfig = InferenceConfig()
    seed: Seed = 0

    @model_validator(mode="after")
    def _check_follower_space(self) -> "Config":
        if self.target.kind == "scalar" and self.learning.follower_space.startswith("prob"):
            raise ValueError("learning.follower_space: a scalar age has no probabilities")
        return self

    @model_validator(mode="after")
    def _check_task(self) -> "Config":
        if (self.images is not None) != (self.target.kind == "classes"):
            raise ValueError("images and target.kind: classes go together")
        if self.images is not None and self.training.mixup_alpha > 0:
            raise ValueError("training.mixup_alpha: classes cannot be averaged as ages can")
        return self

    @model_validator(mode="after")
    def _check_validation(self) -> "Config":
        if self.images is None or self.images.validation_fraction > 0:
            return self
        patience = self.training.patience_epochs or self.learning.patience_epochs
        if self.training.keep == "best" or patience is not None:
            raise ValueError(
                "images.validation_fraction: 0 leaves nothing to choose an epoch by; "
                "training.keep must be last, patience_epochs null"
            )
        if self.learning.schedule == "progressive":
            raise ValueError("images.validation_fraction: progressive turns need a validation part")
        return self

    @property
    def task(self) -> Literal["brain_age", "images"]:
        """What is learned."""
        return "brain_age" if self.images is None else "images"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: (1, I, J, K) of a scan, (C, I, J) of an image.

        Raises
        ------
        ConfigError
            If the shape of the images is open.
        """
        if self.images is None:
            return (1, *self.preprocessing.shape)
        if self.images.input_shape is None:
            raise ConfigError("images.input_shape", "is open.", "Load the data set first.")
        channels, *size = self.images.input_shape
        return (channels, *([self.images.crop_size or edge for edge in size]))
