"""Training on several processes: started here, or by `torchrun` on one or more machines."""

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import (
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from brainage.config import Config
from brainage.errors import BrainageError, ConfigError, TrainingError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.parallel.transport import RankLostError, explain_lost_rank, place_ranks
from brainage.model.build import build_model, check_remembered, group_blocks
from brainage.training.callbacks import Callback, EpochRecord
from brainage.training.checks import resolve_budget
from brainage.training.options import CHECKPOINT, IN_MEMORY, TrainOptions, started_by_torchrun
from brainage.training.pipelined import Pipelined, build_rank_trainer, check_pipelined
from brainage.training.progressive import Progressive
from brainage.training.resources import choose_device
from brainage.training.state import FitResult, Loader
from brainage.training.trainer import Trainer

TIMEOUT = timedelta(minutes=30)
BuildLoaders = Callable[[torch.Generator | None, bool], tuple[Loader, Loader]]
"""From the generator of the order (None: as stored, but augmented), and whether inputs are
needed, to training and validation batches. It crosses to other processes: a `functools.partial` of
a function, not a closure."""


def check_processes(options: TrainOptions, config: Config) -> None:
    """Refuse settings that cannot be trained on several processes.

    Raises
    ------
    ConfigError
        If the replicas do not divide the processes, `torchrun` started another number of them,
        the method is not local, or there are fewer blocks than stages.
    """
    if options.ranks % options.replicas:
        problem = f"{options.replicas} replicas do not divide {options.ranks} processes."
        raise ConfigError("--replicas", problem, "Use a divisor.")
    if options.processes not in (1, options.ranks):
        problem = f"torchrun started {options.ranks} processes, not {options.processes}."
        raise ConfigError("--processes", problem, f"Use --processes {options.ranks}.")
    check_pipelined(config)
    group_blocks(config, options.stages)  # before any process is started


@dataclass(frozen=True)
class FitTask:
    """What every rank needs to train its blocks.

    Attributes
    ----------
    config : Config
        Resolved settings.
    names : sequence of str
        Names of the training samples.
    build_loaders : callable
        See `BuildLoaders`.
    run_hash : str
        Identity of settings and data, as for `Trainer`.
    options : TrainOptions
        Device, processes, and where the state is kept.
    """

    config: Config
    names: tuple[str, ...]
    build_loaders: BuildLoaders
    run_hash: str = ""
    options: TrainOptions = IN_MEMORY

    @property
    def device(self) -> torch.device:
        """Device to train on; with several processes the kind of it."""
        return choose_device(self.options.device)


def fit(task: FitTask, callbacks: Sequence[Callback] = ()) -> tuple[BlockStack, FitResult]:
    """Train here by the configured schedule, or on several processes by the pipelined one."""
    task = replace(task, config=resolve_budget(task.config, len(task.names)))
    check_remembered(task.config)
    if task.options.ranks > 1:
        return fit_on_processes(task, callbacks)
    config, shuffle = task.config, torch.Generator()
    model = build_model(config)
    schedule = None
    if config.learning.schedule == "progressive":
        schedule = Progressive(config, len(model), task.build_loaders(None, True)[0])
    trainer = Trainer(
        model,
        config,
        schedule=schedule,
        names=task.names,
        shuffle=shuffle,
        device=task.device,
        callbacks=callbacks,
        checkpoint_path=task.options.checkpoint_path,
        run_hash=task.run_hash,
    )
    resume = task.options.resume
    return trainer.model, trainer.fit(*task.build_loaders(shuffle, True), resume=resume)


def fit_on_processes(
    task: FitTask, callbacks: Sequence[Callback] = ()
) -> tuple[BlockStack, FitResult]:
    """Train by the pipelined schedule; the result is that of the sequential one.

    Under `torchrun` this process is one of the ranks; otherwise they are started here, and this
    process waits for them and passes their progress on to the callbacks.

    Raises
    ------
    ConfigError
        If processes and settings do not fit.
    TrainingError
        If a process ends early; the state of the last epoch is on disk.
    """
    check_processes(task.options, task.config)
    if started_by_torchrun() is not None:
        return _fit_inline(task, callbacks)
    with tempfile.TemporaryDirectory() as folder:
        if task.options.output is None:
            task = replace(task, options=replace(task.options, output=Path(folder)))
        path = task.options.folder / CHECKPOINT
        if not task.options.resume:
            path.unlink(missing_ok=True)
        rendezvous = Path(folder) / "rendezvous"
        # A file and not a port: nothing can collide with another run or be out of reach.
        arguments = (task, f"file://{rendezvous}")
        for callback in callbacks:
            callback.on_model(build_model(task.config))
        run_ranks(_rank_program, arguments, task.options.ranks, partial(_pass_on, callbacks))
        trainer = Trainer(
            build_model(task.config),
            task.config,
            names=task.names,
            shuffle=torch.Generator(),
            checkpoint_path=path,
            run_hash=task.run_hash,
        )
        # The merged checkpoint holds a finished run: this trains nothing, and keeps what it should.
        result = trainer.fit([], [], resume=True)
        return trainer.model.to(task.device), result


def run_ranks(
    program: Callable[..., None],
    arguments: tuple[Any, ...],
    processes: int,
    receive: Callable[[str, tuple[Any, ...]], None],
) -> None:
    """Start `program(rank, send, *arguments)` in fresh processes, and wait for all.

    Parameters
    ----------
    receive : callable
        Gets what the ranks send: a name and its arguments.

    Raises
    ------
    BrainageError
        As a rank raised it.
    TrainingError
        If a process was killed; the others are ended.
    """
    # It says which ranks it ends after one was lost; the error that is raised says it in a line.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    context = mp.get_context("spawn")
    messages = context.Queue()
    failures: list[BrainageError] = []

    def listen() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                name, content = messages.get(timeout=0.05)
                if name == "error":
                    failures.append(content[0](*content[1:]))
                else:
                    receive(name, content)

    children = start_processes(
        _run_rank, (program, messages, arguments), processes, join=False, start_method="spawn"
    )
    assert children is not None
    try:
        while not children.join(timeout=0.05, grace_period=2.0):
            listen()
        listen()
    except (ProcessExitedException, ProcessRaisedException) as error:
        listen()
        codes = [process.exitcode for process in children.processes]
        raise _explain(failures, codes, error.error_index) from error
    finally:
        for process in children.processes:
            if process.is_alive():
                process.kill()


def _explain(failures: list[BrainageError], codes: list[int | None], first: int) -> BrainageError:
    """Return the cause among what followed from it: a rank's own error, or the first to be killed.

    Where that was not the first to end, SIGTERM tells nothing: torch ends the others by it.
    """
    for failure in failures:
        if not isinstance(failure, RankLostError):
            return failure
    remedy = "Go on from the last finished epoch with --resume."
    for rank in (first, *range(len(codes))):
        code = codes[rank] or 0
        if code < 0 and (rank == first or -code not in (signal.SIGTERM, signal.SIGINT)):
            problem = f"was killed ({signal.Signals(-code).name}); the others were ended."
            return TrainingError(f"process {rank}", problem, remedy)
    if failures:
        return failures[0]
    bad = [rank for rank, code in enumerate(codes) if code]
    return TrainingError(f"processes {bad}", "ended early.", f"{remedy} Use --debug for more.")


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, whatever it waits for then.

    A rank that lives on would write into a folder that the next run has taken. The signal that
    torch asks the system for does not do: it is missed while a rank still imports, and not heeded
    in a collective.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_rank(
    rank: int, program: Callable[..., None], messages: Any, arguments: tuple[Any, ...]
) -> None:
    def send(name: str, *content: Any) -> None:
        messages.put((name, content))

    end_with_parent()
    try:
        program(rank, send, *arguments)
    except BrainageError as error:
        send("error", type(error), *error.args)
        raise SystemExit(1) from None
    finally:
        messages.close()
        messages.join_thread()


def join_ranks(rank: int, processes: int, rendezvous: str, threads: int, device: str) -> None:
    """Join the process group: gloo for the CPU, NCCL beside it where there is a GPU.

    On one machine the loopback interface is used: the machine's own name may not resolve.
    """
    torch.set_num_threads(threads)
    if rendezvous.startswith("file://"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    with explain_lost_rank():
        dist.init_process_group(
            backend, init_method=rendezvous, rank=rank, world_size=processes, timeout=TIMEOUT
        )


def _rank_program(rank: int, send: Callable[..., None], task: FitTask, rendezvous: str) -> None:
    options = task.options
    join_ranks(rank, options.ranks, rendezvous, options.threads_each, str(task.device))
    callbacks = [_Relay(send)] if rank == 0 else []
    _fit_rank(rank, rank, task, callbacks)
    dist.barrier()
    dist.destroy_process_group()


def _fit_inline(task: FitTask, callbacks: Sequence[Callback]) -> tuple[BlockStack, FitResult]:
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if not dist.is_initialized():
        options = task.options
        join_ranks(rank, options.ranks, "env://", options.threads_each, str(task.device))
    trainer, schedule, result = _fit_rank(rank, local_rank, task, callbacks if rank == 0 else [])
    return schedule.gather(trainer.state, build_model(task.config)), result


def _fit_rank(
    rank: int, local_rank: int, task: FitTask, callbacks: Sequence[Callback]
) -> tuple[Trainer, Pipelined, FitResult]:
    options = task.options
    places = place_ranks(group_blocks(task.config, options.stages), options.replicas)
    groups = [
        dist.new_group([place.rank for place in places if place.stage == stage])
        for stage in range(options.stages)
    ]
    device = task.device
    if device.type == "cuda":
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    shuffle, place = torch.Generator(), places[rank]
    trainer, schedule = build_rank_trainer(
        build_model(task.config),
        task.config,
        place=place,
        groups=groups,
        names=task.names,
        shuffle=shuffle,
        device=device,
        callbacks=callbacks,
        checkpoint_path=options.checkpoint_path,
        run_hash=task.run_hash,
    )
    loaders = task.build_loaders(shuffle, place.is_first)
    return trainer, schedule, trainer.fit(*loaders, resume=options.resume)


class _Relay(Callback):
    """Tells the parent what happens; the network itself stays in its process."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send

    def on_past_epoch(self, record: EpochRecord) -> None:
        self._send("on_past_epoch", record)

    def on_fit_start(self, epochs: int, steps_per_epoch: int, done_epochs: int) -> None:
        self._send("on_fit_start", epochs, steps_per_epoch, done_epochs)

    def on_step_end(self, epoch: int, loss: float) -> None:
        self._send("on_step_end", epoch, loss)

    def on_epoch_end(self, record: EpochRecord) -> None:
        self._send("on_epoch_end", record)

    def on_fit_end(self) -> None:
        self._send("on_fit_end")


def _pass_on(callbacks: Sequence[Callback], hook: str, arguments: tuple[Any, ...]) -> None:
    for callback in callbacks:
        getattr(callback, hook)(*arguments)
