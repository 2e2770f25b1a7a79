"""Say which settings that were asked for change nothing in a run."""

from collections.abc import Iterable, Iterator, Sequence

from brainage.config import Config
from brainage.named_code import is_code_name
from brainage.workflows.console import warn

# By name, since the methods' own modules import torch; a method of one's own may read all.
LEADING = ("lfnn", "lfnn_l", "movement")
WEIGHING = (*LEADING, "deep_supervision", "greedy")
WITHOUT_HEADS = ("bp", "dfa")
OWN_HEAD = ("mono_forward",)
_SIZES = {
    "contrast_probability": "max_contrast",
    "noise_probability": "max_noise_std",
    "sharpness_probability": "max_sharpness",
    "tissue_probability": "max_tissue",
    "edge_probability": "max_edge_mm",
}


def tell_unheeded(
    config: Config, asked: Iterable[str], methods: Sequence[str] = (), draws_test: bool = True
) -> None:
    """Warn of each setting that was asked for and changes nothing.

    Parameters
    ----------
    asked : iterable of str
        Dotted names.
    methods : sequence of str
        Methods that are run; none: that of the settings.
    draws_test : bool
        Whether a test part is drawn; folds and sites left out are test parts already.
    """
    for told in unheeded_settings(config, asked, methods, draws_test):
        warn(told)


def unheeded_settings(
    config: Config, asked: Iterable[str], methods: Sequence[str] = (), draws_test: bool = True
) -> list[str]:
    """Return a sentence for each reason why settings that were asked for change nothing.

    Examples
    --------
    >>> from brainage.config import load_preset, with_changes
    >>> config = with_changes(load_preset("phantom"), {"learning.method": "bp"})
    >>> unheeded_settings(config, ["learning.leader_fraction", "training.epochs"])
    ['learning.leader_fraction changes nothing: in bp no workers lead and follow.']
    """
    names = list(dict.fromkeys(asked))
    told = []
    reasons = [*_unread(config, methods or (config.learning.method,))]
    if not draws_test:
        reasons.append((("split.test_fraction",), "folds decide who is tested"))
    for unread, reason in reasons:
        found = [name for name in names if {name, name.split(".")[0]} & set(unread)]
        if found:
            verb = "changes" if len(found) == 1 else "change"
            told.append(f"{', '.join(found)} {verb} nothing: {reason}.")
    return [*told, *_long_warmups(config, names, methods or (config.learning.method,))]


def _long_warmups(config: Config, names: Sequence[str], methods: Sequence[str]) -> Iterator[str]:
    """Say where the learning rate never reaches its value: the warm-up outlasts the training."""
    training, learning = config.training, config.learning
    asked = {"training.epochs", "training.warmup_epochs", "learning.method", "training"} & {*names}
    if not asked or training.iterations is not None or learning.schedule == "progressive":
        return
    turns = learning.blocks or 1 if "greedy" in methods else 1
    share = training.epochs / turns / max(1, training.warmup_epochs)
    if 0 < share < 1:
        whose = "a block's turn" if turns > 1 else "the training"
        yield f"training.warmup_epochs outlasts {whose}: the rate reaches {share:.0%} of its value."


def tell_ages_outside(config: Config, ages_years: Sequence[float]) -> None:
    """Warn of ages that the bins of the settings do not hold: none of them can be predicted."""
    target, ages = config.target, list(ages_years)
    low, high = target.low_years, target.high_years
    below = 0 if low is None else sum(age < low for age in ages)
    above = 0 if high is None else sum(age > high for age in ages)
    if target.kind == "bins" and below + above:
        told = f"target.low_years, target.high_years: {below + above} of {len(ages)} ages lie "
        warn(told + "outside; the model learns, and predicts, the nearest end instead.")


def _unread(config: Config, methods: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield names of settings, or of sections, that nothing reads, and why."""
    yield from _unread_by_methods(methods)
    learning, training = config.learning, config.training
    if learning.schedule != "progressive":
        names = "stored_variants", "patience_epochs", "min_improvement"
        yield _names("learning", *names), f"schedule {learning.schedule} has no turns"
        if training.iterations is None and min(learning.freeze_after or (0,)) >= training.epochs:
            yield ("learning.freeze_after",), f"training ends after {training.epochs} epochs"
    if training.schedule in ("constant", "steps"):
        yield ("training.min_learning_rate",), f"the rate of schedule {training.schedule} has none"
    if training.iterations is not None:
        yield ("training.epochs",), f"training.iterations is {training.iterations}"
    if config.images is not None:
        ages = _names("target", "bins", "low_years", "high_years", "margin_years", "sigma_bins")
        reading = _names("inference", "average_heads", "point", "interval", "min_band_scans")
        parts = _names("split", "test_fraction", "validation_fraction")
        yield (
            ("preprocessing", "augmentation", *ages, *reading, *parts),
            "images are classified, no scans",
        )
        return
    yield ("target.label_smoothing", "target.classes"), "ages are predicted, no classes"
    if config.target.kind == "scalar":
        unread = ("target.bins", "target.sigma_bins", "inference.point")
        yield unread, "a scalar age has no bins"
    for name, size in _SIZES.items():
        pair = getattr(config.augmentation, name), getattr(config.augmentation, size)
        if any(pair) and not all(pair):
            zero = size if pair[0] else name
            yield _names("augmentation", name, size), f"augmentation.{zero} is 0"


def _unread_by_methods(methods: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    def none_of(*able: str) -> bool:
        return not any(name in able or is_code_name(name) for name in methods)

    listed = ", ".join(methods)
    if none_of(*LEADING):
        names = "leader_fraction", "follower_weight", "follower_space", "selection"
        yield _names("learning", *names), f"in {listed} no workers lead and follow"
    if none_of(*WEIGHING):
        yield ("learning.leader_weight",), f"{listed} does not weigh the leaders' loss"
    if all(name in WITHOUT_HEADS for name in methods):
        heads = "head", "workers_per_block", "worker_reads", "head_pool"
        told = f"hidden blocks of {listed} have no heads"
        yield (*_names("learning", *heads), "inference.average_heads"), told
    elif all(name in (*WITHOUT_HEADS, *OWN_HEAD) for name in methods):
        blocks = "head", "workers_per_block", "blocks", "cuts", "cut_by"
        yield _names("learning", *blocks), f"{listed} has heads and blocks of its own"


def _names(section: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{section}.{name}" for name in names)
