"""What one run of a study does: train as `brainage benchmark` does, and look at the workers."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from brainage.config import Config
from brainage.images.complexity import (
    Spectrum,
    hilbert_order,
    hilbert_signals,
    multifractal_spectrum,
)
from brainage.images.sets import load_images, resolve_images
from brainage.images.sources import ImageData, ImageSource, split_training
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.leadership import AdaptiveLeadership, indistinguishable_share
from brainage.lfnn.losses import Leadership
from brainage.lfnn.observe import (
    Diversity,
    feature_diversity,
    mean_by_role,
    predict_with,
    rank_workers,
    worker_accuracy,
    worker_activity,
)
from brainage.lfnn.targets import Classes
from brainage.loading.images import build_image_loader
from brainage.training.callbacks import Callback, EpochRecord
from brainage.training.images import TrainedImages, predict_classes, train_images
from brainage.training.options import TrainOptions
from brainage.training.resources import choose_device
from brainage.workflows.benchmark import default_data_root, leader_fractions, measure
from pipelines.study.plan import Case
from pipelines.study.records import CHECKPOINTS, Outcome, StudyOptions

PROBE = 2000
"""Images that are looked at, of the training part to choose leaders and of the test part."""
COMPLEXITY_IMAGES = 1000
CLASS_IMAGES = 200
"""Images of a class whose complexity is measured."""
ACTIVITY_EVERY = 20
TYPICAL_MOMENTS = tuple(np.linspace(0.0, 5.0, 11))

Metrics = Mapping[str, float | None]
Look = Callable[["Probe", TrainedImages], Metrics]


@dataclass(frozen=True)
class Probe:
    """Images that workers are watched on; leaders are chosen on training images alone."""

    config: Config
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    def leaderships(self, model: BlockStack) -> list[Leadership]:
        """Leaders of each hidden block over the training images of the probe."""
        inputs, labels = self.train
        return [
            rank_workers(y, labels, Classes(y.shape[2]), self._share(model, block_index))
            for block_index, y in enumerate(hidden_outputs(model, inputs))
        ]

    def _share(self, model: BlockStack, block_index: int) -> float:
        auxiliary = model[block_index].auxiliary
        if isinstance(auxiliary, AdaptiveLeadership):
            return float(auxiliary.leader_fraction)
        return float(self.config.learning.leader_fraction)


class BestLeader(Callback):
    """Figure S1: after each epoch, test accuracy of each layer's best leader."""

    def __init__(self, probe: Probe) -> None:
        self._probe, self.curves = probe, list[dict[str, str | float]]()

    def on_model(self, model: BlockStack) -> None:
        """Remember the network."""
        self._model = model

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Choose leaders on training images, score them on test images."""
        inputs, labels = self._probe.test
        leaders = self._probe.leaderships(self._model)
        for layer, (outputs, leadership) in enumerate(
            zip(hidden_outputs(self._model, inputs), leaders, strict=True), start=1
        ):
            accuracy = float(worker_accuracy(outputs, labels)[leadership.best])
            self.curves.append(
                {"line": f"layer {layer}", "epoch": record.epoch, "value": 100 * accuracy}
            )


class TestCurve(Callback):
    """Figure S5: after each epoch, accuracy on test images, which choose nothing."""

    def __init__(self, probe: Probe) -> None:
        self._probe, self.curves = probe, list[dict[str, str | float]]()

    def on_model(self, model: BlockStack) -> None:
        """Remember the network."""
        self._model = model

    @torch.no_grad()
    def on_epoch_end(self, record: EpochRecord) -> None:
        """Score the network's output."""
        inputs, labels = self._probe.test
        was_training = self._model.training
        predicted = self._model.eval()(inputs).argmax(dim=1)
        self._model.train(was_training)
        value = 100 * float((predicted == labels).float().mean())
        self.curves.append({"epoch": record.epoch, "value": value})


class Activity(Callback):
    """Figure S4: now and then, how far a single step moves leaders' and followers' outputs."""

    def __init__(self, probe: Probe) -> None:
        self._probe, self._steps = probe, 0
        self._before: list[Tensor] = []
        self.curves: list[dict[str, str | float]] = []

    def on_model(self, model: BlockStack) -> None:
        """Remember the network."""
        self._model = model

    def on_step_end(self, epoch: int, loss: float) -> None:
        """Look before and after every `ACTIVITY_EVERY`-th step."""
        self._steps += 1
        if self._steps % ACTIVITY_EVERY == ACTIVITY_EVERY - 1:
            self._before = hidden_outputs(self._model, self._probe.test[0])
        if self._steps % ACTIVITY_EVERY == 0:
            self._compare()

    def _compare(self) -> None:
        after = hidden_outputs(self._model, self._probe.test[0])
        leaders = self._probe.leaderships(self._model)
        for layer, (old, new, leadership) in enumerate(
            zip(self._before, after, leaders, strict=True), start=1
        ):
            moved = mean_by_role(worker_activity(old, new), leadership.leader_mask)
            for role, value in zip(("leaders", "followers"), moved, strict=True):
                if value == value:
                    line = f"layer {layer}, {role}"
                    self.curves.append({"line": line, "step": self._steps, "value": value})


def train(case: Case, options: StudyOptions) -> Outcome:
    """Train and test; the curve is the validation accuracy after each epoch, where there is one."""
    trained = _train(case, options, ())
    seen = [each for each in trained.history if np.isfinite(each.val_score)]
    curve = [{"line": "validation", "epoch": e.epoch, "value": 100 * e.val_score} for e in seen]
    return Outcome(run_metrics(trained), curve)


def train_and_mark(case: Case, options: StudyOptions) -> Outcome:
    """Train and test; rows of curves tell the error of every test image, 0 or 100 %."""
    trained = _train(case, options, ())
    wrong = 100.0 * (trained.predicted != trained.labels)
    rows = [{"line": n, "subject": n, "value": value} for n, value in enumerate(wrong.tolist())]
    return Outcome(run_metrics(trained), rows)


def train_to_pair(case: Case, options: StudyOptions) -> Outcome:
    """Train and test; the one row of the curves is the error, to be paired by seed."""
    metrics = run_metrics(_train(case, options, ()))
    return Outcome(metrics, [{"line": "test", "value": metrics["error_percent"]}])


def train_error(case: Case, options: StudyOptions, trained: TrainedImages) -> Metrics:
    """Tables S2 and S7: error on the images that trained, seen whole and without augmentation."""
    images, batch_size = trained.config.images, trained.config.training.batch_size
    assert images is not None
    source = _data(case.config, options).train
    indices, _ = split_training(source.labels, images, case.config.split.seed)
    loader = build_image_loader(source, indices, images, batch_size)
    predicted = predict_classes(trained.model, trained.config, loader)
    return {"train_error_percent": 100.0 * float((predicted != source.labels[indices]).mean())}


def train_both(case: Case, options: StudyOptions) -> Outcome:
    """Train, and report test and train error."""
    trained = _train(case, options, ())
    return Outcome(run_metrics(trained) | dict(train_error(case, options, trained)))


def train_and(look: Look, case: Case, options: StudyOptions) -> Outcome:
    """Train, test, and look at the trained network."""
    probe = build_probe(case.config, options)
    trained = _train(case, options, ())
    return Outcome(run_metrics(trained) | dict(look(probe, trained)))


def train_watched(
    watch: Callable[[Probe], BestLeader | TestCurve | Activity], case: Case, options: StudyOptions
) -> Outcome:
    """Train and test with a callback that watches the workers."""
    watcher = watch(build_probe(case.config, options))
    trained = _train(case, options, [watcher])
    return Outcome(run_metrics(trained), watcher.curves)


def roles_alone(probe: Probe, trained: TrainedImages) -> Metrics:
    """Figure S2: test accuracy when all workers speak, only leaders, only followers."""
    trained.model.eval()
    leaders = [item.leader_mask for item in probe.leaderships(trained.model)]
    everyone = [torch.ones_like(mask) for mask in leaders]
    followers = [~mask for mask in leaders]
    inputs, labels = probe.test
    spoken = {"both": everyone, "leaders_only": leaders, "followers_only": followers}
    return {
        f"{name}_percent": 100.0
        * float((predict_with(trained.model, inputs, kept).argmax(1) == labels).float().mean())
        for name, kept in spoken.items()
    }


def diversity(probe: Probe, trained: TrainedImages) -> Metrics:
    """Table S10: diversity of the workers' outputs on test images, mean over hidden blocks."""
    outputs = hidden_outputs(trained.model, probe.test[0])
    found = [
        asdict(feature_diversity(item, leadership.leader_mask))
        for item, leadership in zip(outputs, probe.leaderships(trained.model), strict=True)
    ]
    means = {f.name: float(np.mean([row[f.name] for row in found])) for f in fields(Diversity)}
    return {name: value if np.isfinite(value) else None for name, value in means.items()}


def leaders_found(probe: Probe, trained: TrainedImages) -> Metrics:
    """Figure S11: share of leaders that adaptive leadership settled on, mean over blocks."""
    shares = leader_fractions(trained)
    return {"leaders_percent": 100.0 * float(np.mean(shares)) if shares else None}


def measure_complexity(case: Case, options: StudyOptions) -> Outcome:
    """Figures S9 and S10: mean spectrum of training images along the Hilbert curve.

    `width_typical` is the width over q ≥ 0 alone: negative orders weigh the least varying places,
    such as a digit's grey rim, and depend most on the scales.
    """
    images = draw_images(case.config, options, COMPLEXITY_IMAGES)
    signals = hilbert_signals(images / 255.0)
    signals = signals[np.ptp(signals, axis=1) > 0]
    spectrum = multifractal_spectrum(signals)
    typical = multifractal_spectrum(signals, moments=TYPICAL_MOMENTS)
    alpha, f = spectrum.alpha.mean(axis=0), spectrum.f.mean(axis=0)
    curve = [
        {"line": "mean spectrum", "point": point, "alpha": float(a), "value": float(v)}
        for point, (a, v) in enumerate(zip(alpha[::10], f[::10], strict=True))
    ]
    metrics = {
        "width": float(spectrum.width.mean()),
        "irregularity": float(spectrum.irregularity.mean()),
        "width_typical": float(typical.width.mean()),
    }
    return Outcome(metrics, curve)


def map_image(case: Case, options: StudyOptions) -> Outcome:
    """Figure S9: one image pixel by pixel along the Hilbert curve."""
    signal = hilbert_signals(draw_images(case.config, options, 1) / 255.0)[0]
    order = int(np.log2(signal.size)) // 2
    path = zip(hilbert_order(order).tolist(), signal.tolist(), strict=True)
    rows = [
        {"step": step, "row": row, "column": column, "value": value}
        for step, ((row, column), value) in enumerate(path)
    ]
    return Outcome({"order": float(order)}, rows)


def complexity_and_leaders(case: Case, options: StudyOptions) -> Outcome:
    """Figure S11: for each class of a data set, its complexity and the leaders that it needs.

    Leaders of a class: workers that its images cannot tell from the best one, mean over hidden
    blocks, counted in a trained network on training images. Complexity: irregularity of the same
    class's images along the Hilbert curve.
    """
    trained = _train(case, options, ())
    probe = build_probe(case.config, options)
    needed = leaders_by_class(probe, trained.model)
    source = _data(case.config, options).train
    rng = np.random.default_rng(case.config.seed)
    irregular: dict[int, float] = {}
    for label in needed:
        positions = np.flatnonzero(source.labels == label)
        chosen = rng.choice(positions, min(CLASS_IMAGES, len(positions)), replace=False)
        spectrum = _spectrum(np.asarray(source.load(np.sort(chosen))))
        irregular[label] = float(spectrum.irregularity.mean())
    curve = [
        {"line": f"class {label}", "irregularity": irregular[label], "value": needed[label]}
        for label in needed
    ]
    x, y = list(irregular.values()), list(needed.values())
    metrics = {
        "leaders": float(np.mean(y)),
        "irregularity": float(np.mean(x)),
        "rank_correlation": float(spearmanr(x, y).statistic) if len(set(y)) > 1 else None,
    }
    return Outcome(run_metrics(trained) | metrics, curve)


def leaders_by_class(probe: Probe, model: BlockStack) -> dict[int, float]:
    """Count the workers that each class's images cannot tell from the best: mean over blocks."""
    inputs, labels = probe.train
    losses = [Classes(y.shape[2]).loss(y, labels) for y in hidden_outputs(model, inputs)]
    return {
        int(label): float(
            np.mean([x.shape[1] * indistinguishable_share(x[labels == label]) for x in losses])
        )
        for label in labels.unique()
    }


def _spectrum(images: np.ndarray) -> Spectrum:
    signals = hilbert_signals(images / 255.0)
    return multifractal_spectrum(signals[np.ptp(signals, axis=1) > 0])


def run_metrics(trained: TrainedImages) -> dict[str, float | None]:
    """Numbers of `metrics.json`, with accuracy and error in percent."""
    measured = measure(trained)
    return {
        "accuracy_percent": 100 * trained.test_accuracy,
        "error_percent": 100 * (1 - trained.test_accuracy),
    } | {name: measured[name] for name in ("parameters", "seconds_per_epoch", "peak_memory_mb")}


@torch.no_grad()
def hidden_outputs(model: BlockStack, inputs: Tensor) -> list[Tensor]:
    """Worker outputs (B, W, C) of the hidden blocks, in evaluation mode."""
    was_training = model.training
    model.eval()
    outputs = [item for item in model.block_outputs(inputs)[:-1] if item is not None]
    model.train(was_training)
    return outputs


def build_probe(config: Config, options: StudyOptions) -> Probe:
    """Return fixed images to watch workers on, normalised, without augmentation."""
    config = resolve_images(config)
    data = _data(config, options)
    device = choose_device(options.device)
    parts = [_take(source, config, device) for source in (data.train, data.test)]
    return Probe(config, *parts)


def draw_images(config: Config, options: StudyOptions, count: int) -> np.ndarray:
    """Training images (N, C, I, J), uint8, drawn by the run's seed."""
    source = _data(config, options).train
    rng = np.random.default_rng(config.seed)
    chosen = rng.choice(len(source.labels), min(count, len(source.labels)), replace=False)
    return np.asarray(source.load(np.sort(chosen)))


def _take(source: ImageSource, config: Config, device: torch.device) -> tuple[Tensor, Tensor]:
    assert config.images is not None
    count = len(source.labels)
    indices = np.linspace(0, count - 1, min(PROBE, count)).astype(np.int64)
    (batch,) = build_image_loader(source, indices, config.images, len(indices))
    return batch["inputs"].to(device), batch["target"].to(device)


def _train(case: Case, options: StudyOptions, callbacks: Sequence[Callback]) -> TrainedImages:
    data = _data(case.config, options)
    if callbacks:  # what they have seen is not kept
        return train_images(data, case.config, TrainOptions(device=options.device), callbacks)
    folder = options.output / CHECKPOINTS / case.name
    resumed = TrainOptions(device=options.device, output=folder, resume=True)
    trained = train_images(data, case.config, resumed)
    shutil.rmtree(folder, ignore_errors=True)
    return trained


def _data(config: Config, options: StudyOptions) -> ImageData:
    assert config.images is not None
    root = options.data_root or default_data_root()
    return _load(config.images.dataset, root, config.images.input_shape)


@lru_cache(maxsize=2)
def _load(name: str, data_root: Path, shape: tuple[int, int, int] | None) -> ImageData:
    return load_images(name, data_root, shape)


find_leaders = partial(train_and, leaders_found)
watch_best_leader = partial(train_watched, BestLeader)
watch_test = partial(train_watched, TestCurve)
watch_activity = partial(train_watched, Activity)
compare_roles = partial(train_and, roles_alone)
compare_workers = partial(train_and, diversity)
