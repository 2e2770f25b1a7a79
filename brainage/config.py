"""Frozen settings: YAML in, resolved YAML out. Unknown keys are errors."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from brainage.errors import ConfigError
from brainage.types import METHODS


def _check_method(name: str) -> str:
    if name not in METHODS:
        raise ValueError(f"must be one of {', '.join(METHODS)}")
    return name


def _check_leader_fraction(value: Any) -> float | str:
    try:
        fraction = float(value)
    except (TypeError, ValueError):
        fraction = 0.0
    if value != "auto" and not 0.0 < fraction <= 1.0:
        raise ValueError("must be above 0 and at most 1, or auto")
    return "auto" if value == "auto" else fraction


Method = Annotated[str, AfterValidator(_check_method)]
LeaderFraction = Annotated[float | Literal["auto"], BeforeValidator(_check_leader_fraction)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Settings(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PreprocessingConfig(Settings):
    """The network's grid and the checks on the way to it.

    Attributes
    ----------
    spacing_mm : float
        Edge of a voxel of the grid, in mm, in MNI space.
    shape : tuple of int (3,)
        Voxels of the grid along i, j, k, centred on the template's brain.
    min_mask_overlap : float
        Smallest Dice overlap of the scan's brain with the MNI152 brain mask. The default lies
        under all 267 OASIS-1 scans (0.81 to 0.96).
    min_template_correlation : float
        Smallest Pearson correlation with the MNI152 T1 template inside the brain. The default
        lies under all 267 OASIS-1 scans (0.02 to 0.68, 99 % above 0.27) and above T2 contrast.
    """

    spacing_mm: Annotated[float, Field(ge=0.5, le=16.0)] = 4.0
    shape: tuple[int, int, int] = (40, 48, 40)
    min_mask_overlap: Probability = 0.80
    min_template_correlation: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.0

    @model_validator(mode="after")
    def _check_shape(self) -> "PreprocessingConfig":
        if min(self.shape) < 4 or max(self.shape) > 512:
            raise ValueError("shape must have 4 to 512 voxels along each axis")
        return self


class AugmentationConfig(Settings):
    """Random changes of a training scan; a probability or size of 0 switches one off."""

    flip_probability: Probability = 0.5
    affine_probability: Probability = 0.5
    max_rotation_degrees: Annotated[float, Field(ge=0.0, le=45.0)] = 5.0
    max_scale: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    max_shift_mm: Annotated[float, Field(ge=0.0, le=50.0)] = 4.0
    bias_probability: Probability = 0.0
    noise_probability: Probability = 0.25
    max_noise_std: Annotated[float, Field(ge=0.0, le=2.0)] = 0.1
    blur_probability: Probability = 0.0
    motion_probability: Probability = 0.0


class TargetConfig(Settings):
    """How an age or a class becomes a learning target.

    Attributes
    ----------
    kind : {"bins", "scalar", "classes"}
        Gaussian soft label over age bins with KL loss (SFCN, Peng et al. 2021), the scaled
        age itself with L1 loss, or one of the classes of an image data set with cross-entropy.
    classes : int, optional
        Number of classes. Absent: the data set's.
    low_years, high_years : float, optional
        Centres of the first and last bin. Absent: the training ages' range plus `margin_years`.
    """

    kind: Literal["bins", "scalar", "classes"] = "bins"
    classes: Annotated[int, Field(ge=2)] | None = None
    bins: Annotated[int, Field(ge=2, le=512)] = 41
    low_years: float | None = None
    high_years: float | None = None
    margin_years: Annotated[float, Field(ge=0.0)] = 3.0
    sigma_bins: Annotated[float, Field(gt=0.0)] = 1.0

    @model_validator(mode="after")
    def _check_range(self) -> "TargetConfig":
        if None not in (self.low_years, self.high_years) and self.low_years >= self.high_years:  # type: ignore[operator]
            raise ValueError("low_years must be below high_years")
        return self


class ImagesConfig(Settings):
    """An image data set, how it is augmented, and what is kept for validation.

    What is absent is filled from the data set's facts (`brainage.data.images.DATASETS`).

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
    validation_fraction : float
        Share of the training images that are set aside to choose the epoch.
    train_limit : int, optional
        Use only so many training images, class-balanced: a reduced run.
    """

    dataset: str
    input_shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_padding: Annotated[int, Field(ge=0, le=64)] | None = None
    flip_probability: Probability | None = None
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    train_limit: Annotated[int, Field(ge=2)] | None = None


class NetworkConfig(Settings):
    """Which network, and the arguments of its `build_stages`."""

    name: str
    arguments: dict[str, int | float | str | bool | list[int]] = Field(default_factory=dict)


class LearningConfig(Settings):
    """The learning rule.

    Attributes
    ----------
    blocks : int, optional
        Number of blocks K; absent: one per stage.
    cut_by : {"time", "memory", "parameters"}
        What the K blocks share out evenly.
    cuts : tuple of str, optional
        Names of the stages that start a new block, instead of `blocks`.
    head : {"native", "linear", "conv"}
        What reads a hidden block: its own units are the outputs; a linear layer on pooled
        features; the same after one convolution. The network's output is always linear.
    head_token : {"mean", "class"}
        Of tokens, the mean or the class token is read.
    leader_fraction : float or "auto"
        δ: the share of a block's workers that lead; "auto" is found while training.
    follower_weight : float
        λ of the follower loss.
    follower_space : {"output", "probability"}
        Followers approach the best leader's outputs, or the softmax of them.
    """

    method: Method = "lfnn_l"
    blocks: Annotated[int, Field(ge=1)] | None = None
    cut_by: Literal["time", "memory", "parameters"] = "time"
    cuts: tuple[str, ...] | None = None
    head: Literal["native", "linear", "conv"] = "linear"
    workers_per_block: Annotated[int, Field(ge=1, le=1024)] = 8
    worker_reads: Literal["all", "own"] = "all"
    leader_fraction: LeaderFraction = 0.5
    leader_weight: Annotated[float, Field(ge=0.0)] = 1.0
    follower_weight: Annotated[float, Field(ge=0.0)] = 1.0
    follower_space: Literal["output", "probability"] = "output"
    selection: Literal["per_batch", "per_sample"] = "per_batch"
    head_pool: Annotated[int, Field(ge=1, le=8)] = 2
    output_pool: Annotated[int, Field(ge=1, le=8)] = 2
    head_norm: Literal["batch", "layer", "none"] = "batch"
    head_token: Literal["mean", "class"] = "mean"
    head_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @model_validator(mode="after")
    def _check_cut(self) -> "LearningConfig":
        if self.blocks is not None and self.cuts is not None:
            raise ValueError("give blocks or cuts, not both")
        return self


class TrainingConfig(Settings):
    """Optimizer, schedule and length of training; one optimizer a block.

    Attributes
    ----------
    optimizer : {"adamw", "sgd"}
        SGD has Nesterov momentum 0.9.
    patience_epochs : int, optional
        Stop when the validation score has not improved for so many epochs.
    keep : {"best", "last"}
        Weights that training ends with: those of the epoch with the best validation score, or
        the last ones.
    ema_decay : float, optional
        Validate and keep the exponential moving average of the weights with this decay a step.
    mixup_alpha : float
        Mix scans and ages of a batch in pairs, shares drawn from Beta(α, α) (Zhang et al. 2018,
        arXiv 1710.09412); 0 switches it off.
    """

    epochs: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=1)] = 8
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    schedule: Literal["cosine", "constant"] = "cosine"
    max_gradient_norm: Annotated[float, Field(gt=0.0)] | None = 5.0
    patience_epochs: Annotated[int, Field(ge=1)] | None = None
    keep: Literal["best", "last"] = "best"
    precision: Literal["float32", "bfloat16", "auto"] = "auto"
    loader_processes: Annotated[int, Field(ge=0)] = 0
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    mixup_alpha: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0


class SplitConfig(Settings):
    """Shares of subjects held out; the rest trains."""

    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.12
    seed: int = 0


class InferenceConfig(Settings):
    """How a trained network is read.

    Attributes
    ----------
    average_heads : {"none", "all"}
        Read the network's output, or average the predictions of all blocks' heads.
    interval : {"absolute", "normalised"}
        Intervals of one width in each band of predicted age, or wider where the distribution
        over age bins is (see `brainage.evaluation.conformal`).
    min_band_scans : int
        Bands of predicted age are joined until each calibrates on so many people.
    """

    average_heads: Literal["none", "all"] = "none"
    interval: Literal["absolute", "normalised"] = "absolute"
    min_band_scans: Annotated[int, Field(ge=1)] = 40


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
    seed: int = 0

    @model_validator(mode="after")
    def _check_follower_space(self) -> "Config":
        if self.target.kind == "scalar" and self.learning.follower_space == "probability":
            raise ValueError("learning.follower_space: a scalar age has no probabilities")
        return self

    @model_validator(mode="after")
    def _check_task(self) -> "Config":
        if (self.images is not None) != (self.target.kind == "classes"):
            raise ValueError("images and target.kind: classes go together")
        if self.images is not None and self.training.mixup_alpha > 0:
            raise ValueError("training.mixup_alpha: classes cannot be averaged as ages can")
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
        return self.images.input_shape


def config_folder() -> Path:
    """Folder of the presets: inside an installed package, or the repository's `configs`."""
    installed = Path(__file__).parent / "_configs"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "configs"


def preset_names(family: str = "brain_age") -> list[str]:
    """Names that `load_preset` accepts."""
    return sorted(path.stem for path in (config_folder() / family).glob("*.yaml"))


def load_preset(name: str, family: str = "brain_age") -> Config:
    """Load a preset by name.

    Raises
    ------
    ConfigError
        If there is no such preset, or it is not valid.
    """
    if name not in preset_names(family):
        known = ", ".join(preset_names(family))
        option = "--preset" if family == "brain_age" else "--network"
        raise ConfigError(option, f"unknown preset {name!r}.", f"Choose one of: {known}.")
    return load_config(config_folder() / family / f"{name}.yaml")


def load_config(path: Path) -> Config:
    """Load a YAML file of settings.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or has an unknown or invalid key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "is not valid YAML.", str(error).splitlines()[0]) from error
    return build_config(content, str(path))


def build_config(content: Any, where: str) -> Config:
    """Check a mapping and freeze it.

    Raises
    ------
    ConfigError
        With one clause for every wrong key.
    """
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        clauses = [_describe(e["loc"], e["msg"], e.get("input")) for e in error.errors()]
        raise ConfigError(where, "; ".join(clauses) + ".") from error


def dump_config(config: Config) -> str:
    """Write a configuration as YAML, every default resolved."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def with_changes(config: Config, changes: dict[str, Any], where: str = "options") -> Config:
    """Replace values by dotted key, for example ``{"training.epochs": 5}``; None is ignored.

    Raises
    ------
    ConfigError
        If a key is unknown or a value is invalid.
    """
    content = config.model_dump(mode="json")
    for key, value in changes.items():
        if value is None:
            continue
        *sections, leaf = key.split(".")
        target: Any = content
        for section in sections:
            target = target.get(section)
            if not isinstance(target, dict):
                raise ConfigError(where, f"unknown setting {key!r}.")
        target[leaf] = value
    return build_config(content, where)


def _describe(location: tuple[int | str, ...], message: str, value: Any) -> str:
    key = ".".join(str(part) for part in location) or "file"
    came = "" if isinstance(value, dict | list) else f", got {value!r}"
    return f"{key}: {message[0].lower()}{message[1:]}{came}"
