"""The parts of a configuration, each frozen; an unknown key is an error."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from brainage.config.values import (
    LATER,
    Correlation,
    HeadName,
    LeaderFraction,
    Method,
    Probability,
    Seed,
    Settings,
)

_FORMER = [
    "head_height_mm",
    "erosions_mm",
    "mask_slack_mm",
    "restart_below_correlation",
    "restart_degrees",
]


class PreprocessingConfig(Settings):
    """The network's grid and the checks on the way to it.

    Attributes
    ----------
    spacing_mm : float
        Edge of a voxel of the grid, in mm, in MNI space.
    shape : tuple of int (3,)
        Voxels of the grid along i, j, k, centred on the template's brain.
    intensity : {"brain", "tissue", "local"}
        What intensities are brought to: the brain's mean 0 and deviation 1; fluid, grey and white
        matter 1, 2 and 3; or the contrast to a neighbourhood of 12 mm. The last two mean the same
        on every scanner (`brainage.preprocessing.intensity`).
    inner_depth_mm : float, optional
        See only what lies so deep inside the template's brain: `tissue` and `local` intensities
        are then computed there alone, and what the scan's own mask leaves out of it counts as
        fluid, so that neither the edge nor the tightness of that mask is an input.
    min_mask_overlap : float
        Dice overlap with the MNI152 brain mask from which an extracted brain counts as lying in
        MNI space already; below it, it is registered. The default lies under all 267 OASIS-1
        scans (0.81 to 0.96).
    min_template_correlation : float
        Smallest Pearson correlation with the MNI152 T1 template inside the brain: below it, a
        scan fails. The default lies under all 267 OASIS-1 scans (0.02 to 0.68, 99 % above 0.27)
        and above T2 contrast.
    working_spacing_mm : float
        Grid on which bias field, skull and registration are found.
    bias_spacing_mm, bias_iterations : float, int
        Shrunken grid of N4 and its iterations at each level.
    series : str, optional
        Series to take from DICOM input, by number or by text that its description holds.
    """

    spacing_mm: Annotated[float, Field(ge=0.5, le=16.0)] = 4.0
    shape: tuple[int, int, int] = (40, 48, 40)
    intensity: Literal["brain", "tissue", "local"] = "brain"
    inner_depth_mm: Annotated[Annotated[float, Field(gt=0.0, le=30.0)] | None, LATER] = None
    min_mask_overlap: Probability = 0.80
    min_template_correlation: Correlation = 0.0
    working_spacing_mm: Annotated[float, Field(ge=1.0, le=4.0)] = 2.0
    bias_spacing_mm: Annotated[float, Field(ge=2.0, le=16.0)] = 8.0
    bias_iterations: Annotated[int, Field(ge=1, le=200)] = 30
    series: str | None = None

    def on_grid(
        self, spacing_mm: float, field_mm: tuple[float, float, float]
    ) -> "PreprocessingConfig":
        """Return the settings on a grid of another spacing that covers a field of view in mm."""
        shape = tuple(math.ceil(side / spacing_mm - 1e-6) for side in field_mm)
        changes = {"spacing_mm": spacing_mm, "shape": shape}
        return PreprocessingConfig.model_validate({**self.model_dump(), **changes})

    @model_validator(mode="before")
    @classmethod
    def _drop_former(cls, content: Any) -> Any:
        """Read bundles of 0.1: a head's place has not depended on these since."""
        if not isinstance(content, dict):
            return content
        return {name: value for name, value in content.items() if name not in _FORMER}

    @model_validator(mode="after")
    def _check_depth(self) -> "PreprocessingConfig":
        if self.inner_depth_mm is not None and self.intensity == "brain":
            raise ValueError("inner_depth_mm: intensity brain takes the scan's whole brain")
        return self

    @model_validator(mode="after")
    def _check_shape(self) -> "PreprocessingConfig":
        if min(self.shape) < 4 or max(self.shape) > 512:
            raise ValueError("shape must have 4 to 512 voxels along each axis")
        return self


class TransformConfig(Settings):
    """A transform of TorchIO, of MONAI or derived from theirs, for training scans.

    Attributes
    ----------
    name : str
        Where it is imported from, for example ``torchio.RandomGhosting``. Only training imports
        it: a bundle that names one predicts without.
    arguments : dict
        What it is built with. Lengths are in mm for TorchIO's; dictionary transforms of MONAI
        have ``keys: inputs``.
    keeps_background : bool
        Set voxels that were 0 to 0 again. On every prepared scan the background is 0; for
        transforms that leave the head in its place.
    """

    name: Annotated[str, Field(pattern=r"^[^\W\d]\w*([.:][^\W\d]\w*)+$")]
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    keeps_background: bool = False


class AugmentationConfig(Settings):
    """Random changes of a training scan; a probability or size of 0 switches one off.

    Attributes
    ----------
    max_contrast : float
        Deviation of the logarithms of the slopes of a random brightness curve.
    max_sharpness : float
        Share of a scan's finest detail that is added or, as often, taken away.
    max_tissue : float
        Largest strength with which each tissue of the template is added or taken away, in what a
        prepared scan's intensities are in; it varies slowly in space.
    max_edge_mm : float
        How much is taken off the edge of what the network sees.
    stranger_copies : int
        Copies of each training scan that are prepared beforehand as strangers might send it:
        stripped, resampled, …, several at once (`meet_stranger`). In half of all draws one of them
        takes the scan's place.
    extra : tuple of TransformConfig
        The user's own changes, in this order after the others.
    """

    flip_probability: Probability = 0.5
    affine_probability: Probability = 0.5
    max_rotation_degrees: Annotated[float, Field(ge=0.0, le=45.0)] = 5.0
    max_scale: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    max_shift_mm: Annotated[float, Field(ge=0.0, le=50.0)] = 4.0
    contrast_probability: Probability = 0.0
    max_contrast: Annotated[float, Field(ge=0.0, le=2.0)] = 0.3
    bias_probability: Probability = 0.0
    noise_probability: Probability = 0.25
    max_noise_std: Annotated[float, Field(ge=0.0, le=2.0)] = 0.1
    blur_probability: Probability = 0.0
    motion_probability: Probability = 0.0
    # Settings from before these have the same text, and so the same identity, as without them.
    sharpness_probability: Annotated[Probability, LATER] = 0.0
    max_sharpness: Annotated[float, Field(ge=0.0, le=1.0), LATER] = 0.0
    tissue_probability: Annotated[Probability, LATER] = 0.0
    max_tissue: Annotated[float, Field(ge=0.0, le=5.0), LATER] = 0.0
    edge_probability: Annotated[Probability, LATER] = 0.0
    max_edge_mm: Annotated[float, Field(ge=0.0, le=30.0), LATER] = 0.0
    stranger_copies: Annotated[int, Field(ge=0, le=20), LATER] = 0
    extra: Annotated[tuple[TransformConfig, ...], LATER] = ()


class TargetConfig(Settings):
    """How an age or a class becomes a learning target.

    Attributes
    ----------
    kind : {"bins", "scalar", "classes"}
        Gaussian soft label over age bins with KL loss (SFCN, Peng et al. 2021), the scaled
        age itself with L1 loss, or one of the classes of an image data set with cross-entropy.
    classes : int, optional
        Number of classes. Absent: the data set's.
    label_smoothing : float
        Share of a class label that is spread evenly over all classes.
    low_years, high_years : float, optional
        Centres of the first and last bin. Absent: the training ages' range plus `margin_years`.
    """

    kind: Literal["bins", "scalar", "classes"] = "bins"
    classes: Annotated[int, Field(ge=2)] | None = None
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0), LATER] = 0.0
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
    """Which network, and the arguments of its `build_stages`.

    Attributes
    ----------
    name : str
        Network of the package, or ``package.module:function`` (see `brainage.networks`).
    arguments : dict
        Keyword arguments of the network.
    unit_amplitude : bool
        Divide each input by the mean size of its values first, so that a scan's contrast as a
        whole decides nothing.
    """

    name: str
    arguments: dict[str, int | float | str | bool | list[int]] = Field(default_factory=dict)
    unit_amplitude: Annotated[bool, LATER] = False


class LearningConfig(Settings):
    """The learning rule.

    Attributes
    ----------
    method : str
        Method of the package, or ``package.module:RULE`` (see `brainage.lfnn.Rule`).
    blocks : int, optional
        Number of blocks K; absent: one per stage.
    cut_by : {"time", "memory", "parameters"}
        What the K blocks share out evenly.
    cuts : tuple of str, optional
        Names of the stages that start a new block, instead of `blocks`.
    head : str
        What reads a hidden block: `native`, its own units are the outputs; `linear`, a layer on
        pooled features; `conv`, the same after one convolution of the block's width; `thin`, the
        same after a 1-wide one to 128 channels; `dgl`, the mlp-sr head of Decoupled Greedy
        Learning; `auglocal`, fresh copies of later stages. The network's output is always linear.
    head_token : {"mean", "class"}
        Of tokens, the mean or the class token is read.
    leader_fraction : float or "auto"
        δ, above 0 and at most 1: the share of a block's workers that lead; "auto" is found while
        training.
    follower_weight : float
        λ of the follower loss.
    follower_space : {"output_mean", "probability_mean", "output", "probability"}
        Followers approach the best leader's outputs, or the softmax of them; squared differences
        are averaged over the C outputs, or summed (`output`, `probability`).
    schedule : {"sequential", "progressive"}
        All blocks learn in every step, or one after another on stored features of the frozen
        blocks before them (see `brainage.lfnn.schedules`).
    freeze_after : tuple of int, optional
        For each hidden block, the epochs that it learns at most; then it is frozen.
    update_every : tuple of int, optional
        For each hidden block, n: it learns in every n-th step of an epoch, the first among them.
        Sequential schedule only.
    stored_variants : int
        Progressive: augmented variants of each scan whose features are stored.
    patience_epochs, min_improvement : int, optional, and float
        Progressive: a block whose validation loss has not fallen by this share for so many
        epochs anneals at once and is frozen. Without patience each block has its full turn.
    """

    method: Method = "lfnn_l"
    schedule: Literal["sequential", "progressive"] = "sequential"
    freeze_after: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    update_every: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    stored_variants: Annotated[int, Field(ge=1, le=64)] = 4
    patience_epochs: Annotated[int, Field(ge=1)] | None = None
    min_improvement: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    blocks: Annotated[int, Field(ge=1)] | None = None
    cut_by: Literal["time", "memory", "parameters"] = "time"
    cuts: tuple[str, ...] | None = None
    head: HeadName = "linear"
    workers_per_block: Annotated[int, Field(ge=1, le=1024)] = 8
    worker_reads: Literal["all", "own"] = "all"
    leader_fraction: LeaderFraction = 0.5
    leader_weight: Annotated[float, Field(ge=0.0)] = 1.0
    follower_weight: Annotated[float, Field(ge=0.0)] = 1.0
    follower_space: Literal["output_mean", "probability_mean", "output", "probability"] = (
        "output_mean"
    )
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
    optimizer : {"adamw", "sgd", "momentum"}
        SGD has momentum 0.9: Nesterov's (`sgd`) or the plain one (`momentum`). AdamW without
        weight decay is Adam.
    schedule : {"cosine", "linear", "constant", "steps"}
        Of the learning rate after the warm-up: half a cosine or a straight line to
        `min_learning_rate`; or a quarter of it each after 50, 75, 89 and 94 % of the steps
        (Nøkland & Eidnes 2019). A long warm-up and a line make one cycle.
    min_learning_rate : float
        Where `cosine` and `linear` end.
    iterations : int, optional
        Train for so many steps instead of `epochs`; the last epoch may be cut short.
    max_gradient_norm : float, optional
        Clip each block's gradient to this length; null: never.
    patience_epochs : int, optional
        Stop when the validation score has not improved for so many epochs.
    keep : {"best", "last"}
        Weights that training ends with: those of the epoch with the best validation score, or
        the last ones.
    memory_format : {"contiguous", "channels_last"}
        Order of a volume's values in memory; the same numbers but for rounding.
    recompute : bool
        Recompute activations in the backward pass: less memory, about a third more time.
    release_memory : bool
        Give freed memory back to the system at once, where the C library is glibc: the process is
        no larger than its tensors make it, and a step takes about a fifth longer on a CPU.
    ema_decay : float, optional
        Validate and keep the exponential moving average of the weights with this decay a step.
    mixup_alpha : float
        Mix scans and ages of a batch in pairs, shares drawn from Beta(α, α) (Zhang et al. 2018,
        arXiv 1710.09412); 0 switches it off.
    """

    epochs: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=1)] = 8
    optimizer: Literal["adamw", "sgd", "momentum"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    schedule: Literal["cosine", "linear", "constant", "steps"] = "cosine"
    min_learning_rate: Annotated[float, Field(ge=0.0), LATER] = 0.0
    iterations: Annotated[Annotated[int, Field(ge=1)] | None, LATER] = None
    max_gradient_norm: Annotated[float, Field(gt=0.0)] | None = 5.0
    patience_epochs: Annotated[int, Field(ge=1)] | None = None
    keep: Literal["best", "last"] = "best"
    precision: Literal["float32", "bfloat16", "auto"] = "auto"
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    recompute: bool = False
    release_memory: Annotated[bool, LATER] = False
    loader_processes: Annotated[int, Field(ge=0)] = 0
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    mixup_alpha: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0

    @model_validator(mode="after")
    def _check_rates(self) -> "TrainingConfig":
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate {self.min_learning_rate:g} is above learning_rate "
                f"{self.learning_rate:g}"
            )
        return self


class SplitConfig(Settings):
    """Shares of subjects held out; the rest trains."""

    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.12
    seed: Seed = 0


class InferenceConfig(Settings):
    """How a trained network is read.

    Attributes
    ----------
    average_heads : {"none", "all"}
        Read the network's output, or average the predictions of all blocks' heads.
    mirror : bool
        Average the predictions of a scan or image and of its mirror image (left and right
        exchanged); of images their classes' probabilities.
    point : {"mean", "median"}
        What of the distribution over age bins is the predicted age.
    interval : {"two_sided", "absolute", "normalised"}
        In each band of predicted age as far to either side as the residuals reach, or of one
        width, or wider where the distribution over age bins is (`brainage.evaluation.conformal`).
    min_band_scans : int
        Bands of predicted age are joined until each calibrates on so many people.
    """

    average_heads: Literal["none", "all"] = "none"
    mirror: bool = False
    point: Literal["mean", "median"] = "mean"
    interval: Literal["two_sided", "absolute", "normalised"] = "two_sided"
    min_band_scans: Annotated[int, Field(ge=1)] = 40
