"""Hooks into the training loop: a base of no-ops, and progress."""

import math
import time
from dataclasses import dataclass
from functools import partial

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from brainage.lfnn.blocks import BlockStack
from brainage.log_lines import LogLines


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave.

    Attributes
    ----------
    epoch : int
        From 1.
    train_loss, val_loss : float
        Sum over blocks of the mean loss in training; global loss in validation.
    metric : str
        What the score is: "mae_years" or "accuracy".
    val_score : float
        Score of the network's output on the validation samples.
    block_val_scores : tuple of float
        The same for each block's own head; NaN where a block has none.
    epoch_seconds, train_seconds_cumulative : float
        Training time without validation: of this epoch, and of all up to here.
    peak_memory_mb : float
        Largest memory of the run so far.
    data_seconds : float
        Part of the epoch's seconds in which the next batch was waited for.
    """

    epoch: int
    train_loss: float
    val_loss: float
    metric: str
    val_score: float
    block_val_scores: tuple[float, ...]
    epoch_seconds: float
    train_seconds_cumulative: float
    peak_memory_mb: float
    data_seconds: float = math.nan

    def metrics(self) -> dict[str, float]:
        """Return the record under the tracker's metric names."""
        named = {
            "train_loss": self.train_loss,
            "val_loss": self.val_loss,
            f"val_{self.metric}": self.val_score,
            "epoch_seconds": self.epoch_seconds,
            "data_seconds": self.data_seconds,
            "train_seconds_cumulative": self.train_seconds_cumulative,
            "peak_memory_mb": self.peak_memory_mb,
        }
        for block_index, value in enumerate(self.block_val_scores):
            named[f"block_{block_index}_val_{self.metric}"] = value
        return {name: value for name, value in named.items() if math.isfinite(value)}

    def row(self) -> dict[str, float]:
        """Return the record as a row of history.csv: the epoch, then its metrics."""
        return {"epoch": self.epoch, **self.metrics()}


class Callback:
    """Hooks that do nothing; override what is needed."""

    def on_model(self, model: BlockStack) -> None:
        """Look at the network that is going to be trained, on its device; do not touch it."""

    def on_past_epoch(self, record: EpochRecord) -> None:
        """One epoch was read back: training goes on behind it."""

    def on_fit_start(self, epochs: int, steps_per_epoch: int, done_epochs: int) -> None:
        """Training starts, or goes on after `done_epochs`."""

    def on_step_end(self, epoch: int, loss: float) -> None:
        """One batch is learned."""

    def on_epoch_end(self, record: EpochRecord) -> None:
        """One epoch is learned and validated, and its checkpoint is on disk."""

    def on_fit_end(self) -> None:
        """Training ended, also by an error or an interrupt."""


class ProgressBar(Callback):
    """A line with loss, validation score and time left; in a log, a line a minute."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last_score = ""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total} steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task(title, total=None)
        self._last_update = 0.0
        console = self._progress.console
        self._lines: LogLines | None = None
        if not (console.is_terminal or console.is_jupyter):
            self._lines = LogLines(partial(console.print, markup=False, highlight=False))

    def on_fit_start(self, epochs: int, steps_per_epoch: int, done_epochs: int) -> None:
        """Show the bar."""
        self._progress.start()
        total, done = epochs * steps_per_epoch, done_epochs * steps_per_epoch
        if self._lines is not None:
            self._lines.tell(self._title, done, total)
        self._progress.update(self._task, total=total, completed=done)

    def on_step_end(self, epoch: int, loss: float) -> None:
        """Advance the bar; the text changes at most four times a second."""
        self._progress.advance(self._task)
        now = time.monotonic()
        if now - self._last_update > 0.25:
            self._last_update = now
            text = f"{self._title}  epoch {epoch}  loss {loss:.3f}{self._last_score}"
            self._progress.update(self._task, description=text)
            if self._lines is not None:
                task = self._progress.tasks[0]
                steps = None if task.total is None else int(task.total)
                self._lines.tell(f"{text}, steps", int(task.completed), steps)

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Remember the validation score, where there is one."""
        if math.isfinite(record.val_score):
            self._last_score = f"  val {record.metric} {record.val_score:.4g}"

    def on_fit_end(self) -> None:
        """Remove the bar."""
        self._progress.stop()
