"""Part `images`: ResNet-32 and -110 on CIFAR-10 at full length, beside published errors.

Trainings go on together, each on a stream of its own, as many as the first epochs show to pay.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import torch

from brainage.errors import BrainageError
from brainage.images.sets import load_images, resolve_images
from brainage.images.sources import ArrayImages, ImageData
from brainage.lfnn.rules import METHOD_RULES
from brainage.workflows.console import say
from pipelines.device.batches import DeviceImages, put_images
from pipelines.device.budget import Budget
from pipelines.device.replay import synchronise
from pipelines.device.rows import DIVERGED, OK, Row, Rows, describe_failure
from pipelines.device.training import DeviceTraining
from pipelines.device.trainings import QUICK_IMAGES, Training

SAVE_EVERY_S = 20.0
WIDTHS = (1, 2, 4, 8)
GAIN = 1.05
"""How much faster a wider choice must be to be taken."""
UNFINISHED = "unfinished"


@dataclass
class Together:
    """How many trainings go on at once: each width is tried for an epoch, the fastest one stays.

    Attributes
    ----------
    gains : dict of int to float
        By number of trainings: seconds that their epochs take one after another, over seconds that
        they take at once.
    """

    widths: Sequence[int] = WIDTHS
    gains: dict[int, float] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Number that goes on now: the next one to try, or the best one."""
        for before, width in zip([0, *self.widths], self.widths, strict=False):
            if width not in self.gains:
                # One alone is what gains are measured against, and tells nothing.
                worth = before == 0 or before == 1 or self._grows(before)
                return width if worth else self.best
        return self.best

    @property
    def best(self) -> int:
        """Width with the greatest gain."""
        return max(self.gains, key=lambda width: self.gains[width], default=1)

    def _grows(self, width: int) -> bool:
        smaller = [gain for other, gain in self.gains.items() if other < width]
        return self.gains[width] > GAIN * max(smaller, default=1.0)

    def tell(self, alone_s: Sequence[float], together_s: float) -> None:
        """Learn how long an epoch of some trainings took at once."""
        self.gains.setdefault(len(alone_s), sum(alone_s) / together_s)


@dataclass
class ImagesPart:
    """All that the part works with.

    Attributes
    ----------
    rows : Rows
        One row a training, finished or not.
    load : callable
        Brings the data set to the device; called only if something is to do.
    """

    plan: Sequence[Training]
    rows: Rows
    folder: Path
    device: torch.device
    load: Callable[[], DeviceImages]
    together: Together = field(default_factory=Together)
    _data: DeviceImages | None = None

    def todo(self) -> list[Training]:
        """Trainings without a row that stays."""
        return [training for training in self.plan if not self.rows.is_done(self._key(training))]

    def left_s(self) -> float:
        """Seconds that the rest takes; networks that were not timed count as those that were."""
        todo, known = self.todo(), self._seconds_per_epoch()
        if not known:
            return math.nan if todo else 0.0
        seconds = 0.0
        for training in todo:
            row = self.rows.get(self._key(training)) or {}
            same = [value for network, value in known if network == training.network]
            each = row.get("seconds_per_epoch_alone") or mean(same or [v for _, v in known])
            seconds += each * (training.config.training.epochs - row.get("epochs_done", 0))
        return seconds / max(self.together.gains.get(self.together.best, 1.0), 1.0)

    def _seconds_per_epoch(self) -> list[tuple[str, float]]:
        rows = [self.rows.get(self._key(training)) for training in self.plan]
        return [
            (row["network"], row["seconds_per_epoch_alone"])
            for row in rows
            if row and row.get("seconds_per_epoch_alone")
        ]

    def run(self, budget: Budget) -> None:
        """Train until nothing is left or the time is over; what is unfinished is kept."""
        waiting, going = self.todo(), list[tuple[Training, DeviceTraining]]()
        saved, longest_s = budget.clock(), 0.0
        try:
            while (waiting or going) and budget.allows(longest_s):
                places = [place for _, place in going]
                if waiting and len(going) < self.together.width and self._has_room(places, budget):
                    going += self._begin(waiting.pop(0))
                else:
                    start = budget.clock()
                    self._go_on(going[: self.together.width])
                    longest_s = max(longest_s, budget.clock() - start)
                for pair in [pair for pair in going if pair[1].is_over]:
                    going.remove(pair)
                    self._finish(*pair)
                if budget.clock() - saved > SAVE_EVERY_S:
                    self._save(going)
                    saved = budget.clock()
        finally:
            self._save(going)

    def _has_room(self, places: Sequence[DeviceTraining], budget: Budget) -> bool:
        """Tell whether one more training ends in time; one alone always begins.

        Trainings at once all end late: too many would leave no row of this call.
        """
        if not places:
            return True
        rest = [place.alone_s * (place.epochs - place.epochs_done) for place in places]
        another = mean(place.alone_s for place in places) * places[0].epochs
        gain = max(1.0, self.together.gains.get(self.together.best, 1.0))
        return budget.allows((sum(rest) + another) / gain)

    def _key(self, training: Training) -> str:
        return f"{training.key}-{self.device.type}"

    def _begin(self, training: Training) -> list[tuple[Training, DeviceTraining]]:
        """Place a training on the device; its first epoch has the device to itself."""
        self._data = self._data or self.load()
        path = self.folder / "checkpoints" / f"{self._key(training)}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        config = resolve_images(training.config)
        try:
            place = DeviceTraining(config, self._data, self.device, path, self._key(training))
        except (RuntimeError, BrainageError) as error:
            status = describe_failure(error)
            row = {"network": training.network, "how": training.how, "status": status}
            self.rows.add(self._key(training), row)
            say(f"{training.name}: {status}")
            return []
        done = f", goes on after epoch {place.epochs_done}" if place.epochs_done else ""
        if not place.is_over:
            place.alone_s = run_epoch([place], self.device)
        say(f"{training.name}: {place.alone_s:.2f} s an epoch alone{done}")
        return [(training, place)]

    def _go_on(self, going: Sequence[tuple[Training, DeviceTraining]]) -> None:
        places = [place for _, place in going]
        seconds = run_epoch(places, self.device)
        self.together.tell([place.alone_s for place in places], seconds)

    def _save(self, going: Sequence[tuple[Training, DeviceTraining]]) -> None:
        for training, place in going:
            place.save()
            self.rows.add(self._key(training), _row(training, place, UNFINISHED))

    def _finish(self, training: Training, place: DeviceTraining) -> None:
        status = OK if math.isfinite(place.loss) else DIVERGED
        row = _row(training, place, status)
        if status == OK:
            row |= {"error_percent": place.error_percent()}
        self.rows.add(self._key(training), row | {"test_images": len(place.data.test_labels)})
        if place.state.checkpoint_path is not None:
            place.state.checkpoint_path.unlink(missing_ok=True)
        error = f"{row['error_percent']:.2f} %" if status == OK else status
        say(f"{training.name}: {error}; {len(self.todo())} of {len(self.plan)} trainings left")


def run_epoch(places: Sequence[DeviceTraining], device: torch.device) -> float:
    """Take an epoch of some trainings at once, step by step in turn; returns its seconds."""
    synchronise(device)
    start = time.perf_counter()
    for place in places:
        place.begin_epoch()
    for step in range(max(place.steps for place in places)):
        for place in places:
            if step < place.steps:
                place.queue_step()
    synchronise(device)
    seconds = time.perf_counter() - start
    for place in places:
        place.end_epoch(seconds)
    return seconds


def _row(training: Training, place: DeviceTraining, status: str) -> Row:
    learning, history = training.config.learning, place.state.history
    seconds = history[-1].train_seconds_cumulative if history else 0.0
    return {
        "network": training.network,
        "how": training.how,
        "class": METHOD_RULES[learning.method].family,
        "status": status,
        "seed": training.config.seed,
        "epochs": training.config.training.epochs,
        "epochs_done": place.epochs_done,
        "train_loss": place.loss if math.isfinite(place.loss) else None,
        "seconds_per_epoch_alone": place.alone_s if math.isfinite(place.alone_s) else None,
        "seconds_shared": seconds,
        "cuda_graph": place.replay.is_graph,
        "train_images": len(place.data.labels),
        "batch_size": training.config.training.batch_size,
    }


def load_on_device(
    training: Training, data_root: Path, device: torch.device, quick: bool
) -> DeviceImages:
    """Read the data set and bring it to the device; with `quick` its first images alone."""
    config = resolve_images(training.config)
    assert config.images is not None
    data = load_images(config.images.dataset, data_root)
    if quick:
        data = ImageData(_first(data.train, QUICK_IMAGES), _first(data.test, QUICK_IMAGES))
    return put_images(data.train, data.test, config.images, device)


def _first(source: object, count: int) -> ArrayImages:
    assert isinstance(source, ArrayImages)
    return ArrayImages(source.images[:count], source.labels[:count])
