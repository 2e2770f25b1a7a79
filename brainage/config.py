"""Frozen settings: YAML in, resolved YAML out. Unknown keys are errors."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from brainage.errors import ConfigError
from brainage.types import Method

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Correlation = Annotated[float, Field(ge=-1.0, le=1.0)]


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
        Dice overlap with the MNI152 brain mask from which an extracted brain counts as lying in
        MNI space already; below it, it is registered. The default lies under all 267 OASIS-1
        scans (0.81 to 0.96).
    min_template_correlation : float
        Smallest Pearson correlation with the MNI152 T1 template inside the brain: below it, a
        scan fails. The default lies under all 267 OASIS-1 scans (0.02 to 0.68, 99 % above 0.27)
        and above T2 contrast.
    working_spacing_mm : float
        Grid on which the brain of a whole head is found.
    head_height_mm : float
        What is kept of a head, from its top downwards.
    bias_spacing_mm, bias_iterations : float, int
        Shrunken grid of N4 and its iterations at each level.
    erosions_mm : tuple of float
        Erosions that are tried to cut the brain from skull and face.
    mask_slack_mm : float
        How far the brain's mask may lie outside the template's; inside, twice as far.
    restart_below_correlation, restart_degrees : float, tuple of float
        Below this correlation of the extracted brain, registration starts again from poses
        turned by these angles about each axis.
    series : str, optional
        Series to take from DICOM input, by number or by text that its description holds.
    """

    spacing_mm: Annotated[float, Field(ge=0.5, le=16.0)] = 4.0
    shape: tuple[int, int, int] = (40, 48, 40)
    min_mask_overlap: Probability = 0.80
    min_template_correlation: Correlation = 0.0
    working_spacing_mm: Annotated[float, Field(ge=1.0, le=4.0)] = 2.0
    head_height_mm: Annotated[float, Field(ge=120.0, le=400.0)] = 200.0
    bias_spacing_mm: Annotated[float, Field(ge=2.0, le=16.0)] = 8.0
    bias_iterations: Annotated[int, Field(ge=1, le=200)] = 30
    erosions_mm: Annotated[tuple[float, ...], Field(min_length=1)] = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    mask_slack_mm: Annotated[float, Field(ge=0.0, le=20.0)] = 4.0
    restart_below_correlation: Correlation = 0.93
    restart_degrees: tuple[float, ...] = (30.0, 60.0)
    series: str | None = None

    def on_grid(
        self, spacing_mm: float, field_mm: tuple[float, float, float]
    ) -> "PreprocessingConfig":
        """The same settings on a grid of another spacing that covers a field of view in mm."""
        shape = tuple(math.ceil(side / spacing_mm - 1e-6) for side in field_mm)
        changes = {"spacing_mm": spacing_mm, "shape": shape}
        return PreprocessingConfig.model_validate({**self.model_dump(), **changes})

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
    """How an age becomes a learning target.

    Attributes
    ----------
    kind : {"bins", "scalar"}
        Gaussian soft label over age bins with KL loss (SFCN, Peng et al. 2021), or the scaled
        age itself with L1 loss.
    low_years, high_years : float, optional
        Centres of the first and last bin. Absent: the training ages' range plus `margin_years`.
    """

    kind: Literal["bins", "scalar"] = "bins"
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


class NetworkConfig(Settings):
    """Which network, and the arguments of its `build_stages`."""

    name: str
    arguments: dict[str, int | float | str | bool | list[int]] = Field(default_factory=dict)


class LearningConfig(Settings):
    """The learning rule.

    Attributes
    ----------
    blocks : int, optional
        Number of blocks K, cut evenly by parameters-times-voxels cost; absent: one per stage.
    cuts : tuple of str, optional
        Names of the stages that start a new block, instead of `blocks`.
    leader_fraction : float
        δ: the share of a block's workers that lead.
    follower_weight : float
        λ of the follower loss.
    follower_space : {"output", "probability"}
        Followers approach the best leader's outputs, or the softmax of them.
    """

    method: Method = "lfnn_l"
    blocks: Annotated[int, Field(ge=1)] | None = None
    cuts: tuple[str, ...] | None = None
    workers_per_block: Annotated[int, Field(ge=1, le=1024)] = 8
    worker_reads: Literal["all", "own"] = "all"
    leader_fraction: Fraction = 0.5
    leader_weight: Annotated[float, Field(ge=0.0)] = 1.0
    follower_weight: Annotated[float, Field(ge=0.0)] = 1.0
    follower_space: Literal["output", "probability"] = "output"
    selection: Literal["per_batch", "per_sample"] = "per_batch"
    head_pool: Annotated[int, Field(ge=1, le=8)] = 2
    output_pool: Annotated[int, Field(ge=1, le=8)] = 2
    head_norm: Literal["batch", "layer", "none"] = "batch"
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
    patience_epochs : int, optional
        Stop when the validation MAE has not improved for so many epochs.
    keep : {"best", "last"}
        Weights that training ends with: those of the epoch with the smallest validation MAE, or
        the last ones.
    """

    epochs: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=1)] = 8
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    schedule: Literal["cosine", "constant"] = "cosine"
    max_gradient_norm: Annotated[float, Field(gt=0.0)] | None = 5.0
    patience_epochs: Annotated[int, Field(ge=1)] | None = None
    keep: Literal["best", "last"] = "best"
    precision: Literal["float32", "bfloat16", "auto"] = "auto"
    loader_processes: Annotated[int, Field(ge=0)] = 0


class SplitConfig(Settings):
    """Shares of subjects held out; the rest trains."""

    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.12
    seed: int = 0


class Config(Settings):
    """A complete run. `configs/**.yaml` are such files."""

    preprocessing: PreprocessingConfig = PreprocessingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    target: TargetConfig = TargetConfig()
    network: NetworkConfig
    learning: LearningConfig = LearningConfig()
    training: TrainingConfig = TrainingConfig()
    split: SplitConfig = SplitConfig()
    seed: int = 0


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
        raise ConfigError("--preset", f"unknown preset {name!r}.", f"Choose one of: {known}.")
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
