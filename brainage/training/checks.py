"""Settings of schedules that do not fit the method, the blocks or the length of training."""

import math

from brainage.config import Config
from brainage.errors import ConfigError, NonFiniteLossError, TrainingError
from brainage.lfnn.rules import METHOD_RULES
from brainage.loading.batches import count_batches


def check_rests(config: Config, blocks: int) -> None:
    """Refuse `learning.freeze_after` and `update_every` that do not fit method and blocks.

    Raises
    ------
    ConfigError
        If blocks do not learn alone, a hidden block has no number, or a block would be frozen
        before one that it learns from.
    """
    for name in ("freeze_after", "update_every"):
        numbers = getattr(config.learning, name)
        if numbers is None:
            continue
        where, method = f"learning.{name}", config.learning.method
        if METHOD_RULES[method].hidden_loss is None:
            raise ConfigError(where, f"blocks of {method} do not learn alone.", "Leave it out.")
        if len(numbers) != blocks - 1:
            problem = f"{blocks} blocks need {blocks - 1} numbers, {len(numbers)} came."
            raise ConfigError(where, problem, "Give one for each hidden block.")
        if name == "freeze_after" and list(numbers) != sorted(numbers):
            problem = f"a block cannot be frozen before the one it learns from: {list(numbers)}."
            raise ConfigError(where, problem, "Let the epochs grow from block to block.")


def check_turns(config: Config, blocks: int) -> None:
    """Refuse too few epochs, or early stopping, where a method trains blocks in turn.

    Raises
    ------
    TrainingError
        If there are fewer epochs than blocks, or `training.patience_epochs` is set.
    """
    method, epochs = config.learning.method, config.training.epochs
    if not METHOD_RULES[method].trains_in_turn:
        return
    if epochs < blocks:
        raise TrainingError(
            "training.epochs",
            f"{method} trains {blocks} blocks in turn, {epochs} epochs are too few.",
            f"Use {blocks} or more epochs, or fewer blocks.",
        )
    if config.training.patience_epochs is not None:
        raise TrainingError(
            "training.patience_epochs",
            f"{method} trains blocks in turn: the output learns in the last turn only.",
            "Leave patience_epochs out.",
        )


def resolve_budget(config: Config, samples: int) -> Config:
    """Turn `training.iterations` into the epochs that they take on so many training samples."""
    training = config.training
    if training.iterations is None:
        return config
    steps = count_batches(samples, training.batch_size, trains=True)
    epochs = -(-training.iterations // max(1, steps))
    return config.model_copy(update={"training": training.model_copy(update={"epochs": epochs})})


def check_finite_epoch(epoch: int, judged: float, what: str = "the validation loss") -> None:
    """Refuse weights that the last step of an epoch has spoilt; the checkpoint keeps the former.

    Parameters
    ----------
    judged, what : float, str
        What is looked at and its name: the validation loss, or the size of the weights where
        nothing is set aside for validation.

    Raises
    ------
    NonFiniteLossError
        If it is NaN or infinite.
    """
    if not math.isfinite(judged):
        problem = f"{what} after epoch {epoch} is not finite."
        raise NonFiniteLossError("training", problem, "Lower training.learning_rate.")


def check_progressive(config: Config) -> None:
    """Refuse settings that the progressive schedule cannot follow.

    Raises
    ------
    ConfigError
        If the method has no loss of a block alone, or a setting belongs to the other schedule.
    TrainingError
        If `training.patience_epochs` is set.
    """
    method, learning = config.learning.method, config.learning
    if METHOD_RULES[method].hidden_loss is None:
        able = [name for name, rule in METHOD_RULES.items() if rule.hidden_loss is not None]
        raise ConfigError(
            "learning.schedule",
            f"{method} cannot train progressively: no block of it learns alone.",
            f"Use learning.method {' or '.join(able)}, or schedule: sequential.",
        )
    for where, value in (
        ("learning.update_every", learning.update_every),
        ("training.iterations", config.training.iterations),
        ("training.min_learning_rate", config.training.min_learning_rate or None),
        ("training.schedule", None if config.training.schedule == "cosine" else True),
    ):
        if value is not None:
            raise ConfigError(where, "belongs to the sequential schedule.", "Leave it out.")
    if config.training.patience_epochs is not None:
        raise TrainingError(
            "training.patience_epochs",
            "blocks train in turn: the output learns in the last turn only.",
            "Use learning.patience_epochs, which ends the turn of a block.",
        )
