"""One training whose data, draws and learning rates all lie on the device: the host only replays.

The learning rule, optimizers, rate schedule and checkpoint are those of `brainage.training`; only
the loop is another one, since the trainer reads every loss before the next step. Of each epoch the
images that fill no whole batch are left out, others each time, so that all steps have one shape.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from brainage.config import Config
from brainage.errors import CheckpointError, TrainingError
from brainage.model.build import build_model
from brainage.training.callbacks import EpochRecord
from brainage.training.images import predict_classes
from brainage.training.resources import peak_memory_mb
from brainage.training.schedules import stretch_rate
from brainage.training.state import TrainingState
from pipelines.device.batches import DeviceImages, draw_epoch
from pipelines.device.replay import capture, on_stream, open_stream, optimizer_state


class DeviceTraining:
    """A network in training on a device.

    Parameters
    ----------
    config : Config
        Resolved settings; all images of `data` train.
    checkpoint_path : pathlib.Path
        Where the state is kept; what is there is gone on with, if it is this run's.
    run_hash : str
        Identity of settings and data.
    graphs : bool
        Capture the step as a CUDA graph where there is a GPU.

    Attributes
    ----------
    alone_s : float
        Seconds of an epoch with the device to itself; NaN until it is measured.
    """

    def __init__(
        self,
        config: Config,
        data: DeviceImages,
        device: torch.device,
        checkpoint_path: Path,
        run_hash: str,
        graphs: bool = True,
    ) -> None:
        self.config, self.data, self.device = config, data, device
        self.stream = open_stream(device)
        self.alone_s = math.nan
        self.state = TrainingState(
            build_model(config),
            config,
            names=(),
            shuffle=torch.Generator(),
            device=device,
            checkpoint_path=checkpoint_path,
            run_hash=run_hash,
        )
        self._go_on(checkpoint_path)
        self.steps = len(data.labels) // config.training.batch_size
        if not self.steps:
            problem = f"{len(data.labels)} images fill no batch of {config.training.batch_size}."
            raise TrainingError("training.batch_size", problem)
        self._place_inputs()
        self.state.model.train()
        stream = self.stream if graphs else None
        self.replay = capture(self._learn, self._changed, stream, str(checkpoint_path.stem))

    def _go_on(self, path: Path) -> None:
        try:
            if path.exists():
                self.state.restore(path)
        except CheckpointError:
            path.unlink()
            self.state.model.load_state_dict(build_model(self.config).state_dict())

    def _place_inputs(self) -> None:
        """Make the tensors that a captured step reads and writes."""
        training, epochs = self.config.training, self.epochs
        factors = [
            stretch_rate(training, (1, epochs), epoch, step, self.steps)
            for epoch in range(1, epochs + 1)
            for step in range(self.steps)
        ]
        at = {"device": self.device}
        self._rates = training.learning_rate * torch.tensor(factors, **at)  # type: ignore[arg-type]
        self._rate = torch.zeros((), **at)  # type: ignore[call-overload]
        self._draws = torch.zeros(4, len(self.data.labels), dtype=torch.long, device=self.device)
        self._slots = torch.arange(training.batch_size, device=self.device)
        self._step = torch.zeros(1, dtype=torch.long, device=self.device)
        self._start = torch.zeros(1, dtype=torch.long, device=self.device)
        self._loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for optimizer in self.state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._rate

    def _changed(self) -> list[Tensor]:
        model = self.state.model
        own = [self._rate, self._step, self._loss]
        return [
            *model.parameters(),
            *model.buffers(),
            *optimizer_state(self.state.optimizers),
            *own,
        ]

    def _learn(self) -> None:
        """Take one step: which one is read from the device."""
        state, size = self.state, len(self._slots)
        self._rate.copy_(self._rates.index_select(0, self._start + self._step).squeeze(0))
        slots = self._slots + self._step * size
        inputs, target = self.data.batch(self._draws.index_select(1, slots))
        for optimizer in state.optimizers:
            optimizer.zero_grad()
        result = state.rule.step(state.model, inputs, target, state.settings)
        for optimizer in state.optimizers:
            optimizer.step()
        self._loss += torch.stack([loss.double() for loss in result.losses]).sum()
        self._step += 1

    @property
    def epochs_done(self) -> int:
        """Epochs that are in the history."""
        return len(self.state.history)

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return self.config.training.epochs

    @property
    def is_over(self) -> bool:
        """Tell whether all epochs are done, or the loss has left all bounds."""
        return self.epochs_done >= self.epochs or not math.isfinite(self.loss)

    @property
    def loss(self) -> float:
        """Mean training loss of the last epoch; 0 before the first."""
        return self.state.history[-1].train_loss if self.state.history else 0.0

    def begin_epoch(self) -> None:
        """Lay the draws of the next epoch on the device."""
        images = self.config.images
        assert images is not None
        draws = draw_epoch(
            len(self.data.labels),
            self.data.padding,
            images.flip_probability or 0.0,
            self.config.seed,
            self.epochs_done + 1,
        )
        with on_stream(self.stream):
            self._draws.copy_(draws)
            self._start.fill_(self.epochs_done * self.steps)
            self._step.zero_()
            self._loss.zero_()

    def queue_step(self) -> None:
        """Queue the next step of the epoch."""
        with on_stream(self.stream):
            self.replay.run()

    def end_epoch(self, seconds: float) -> None:
        """Wait for the epoch and put it into the history.

        Parameters
        ----------
        seconds : float
            Of this epoch, shared with the trainings that went on at once.
        """
        with on_stream(self.stream):
            loss = float(self._loss) / self.steps
        history, unknown = self.state.history, math.nan
        before = history[-1].train_seconds_cumulative if history else 0.0
        record = EpochRecord(
            len(history) + 1,
            loss,
            unknown,
            self.state.target.metric,
            unknown,
            (),
            epoch_seconds=seconds,
            train_seconds_cumulative=before + seconds,
            peak_memory_mb=peak_memory_mb(self.device),
        )
        self.state.add(record, is_best=False)

    def save(self) -> None:
        """Write the checkpoint."""
        self.state.save(self.state.tensors())

    def error_percent(self) -> float:
        """Error on the test images in percent."""
        predicted = predict_classes(self.state.model, self.config, self.data.test)
        return 100.0 * float((predicted != self.data.test_labels).mean())
