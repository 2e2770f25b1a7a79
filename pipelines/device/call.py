"""One call of the command: its parts in turn, each within its share of the minutes."""

import json
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from brainage.errors import ConfigError, ImageDataError
from brainage.files import atomic_write_text
from brainage.images.sets import find_folder
from brainage.training.resources import choose_device
from brainage.workflows.console import run_as_command, say
from pipelines.device import machine
from pipelines.device.batches import DeviceImages
from pipelines.device.budget import Budget
from pipelines.device.report import Tables, write
from pipelines.device.rows import Rows, describe_failure
from pipelines.device.speed import SpeedPart, build_cells
from pipelines.device.trainings import build_plan
from pipelines.device.vit import VitPart, build_profiles
from pipelines.device.yardsticks import ImagesPart, load_on_device

PARTS = ("images", "speed", "vit")
DATASET = "cifar10"
ENDS = {"images": 0.6, "speed": 0.92, "vit": 1.0}
"""Share of the time after which a part leaves the device to the next one."""
REPORT_S = 20.0
"""Kept for the last tables and pictures; a tenth of the time where that is less."""


@dataclass(frozen=True)
class Call:
    """Options of the command."""

    data: Path
    output: Path
    seconds: float
    parts: tuple[str, ...] = PARTS
    device: str = "cuda"
    epochs: int | None = None
    seed: int = 0
    quick: bool = False
    command: str = ""


class Part(Protocol):
    """What is done row by row, and goes on where it was."""

    rows: Rows

    def run(self, budget: Budget) -> None:
        """Work until nothing is left or the time is over."""

    def left_s(self) -> float:
        """Seconds that the rest takes; NaN where nothing was timed yet."""

    def todo(self) -> Sequence[object]:
        """List what is left."""


def run(call: Call, budget: Budget) -> int:
    """Run a call; returns the exit code."""
    return run_as_command(partial(_run, call, budget))


def _run(call: Call, budget: Budget) -> int:
    unknown = [name for name in call.parts if name not in PARTS]
    if unknown:
        raise ConfigError("--part", f"{unknown[0]!r} is none of {', '.join(PARTS)}.")
    device = choose_device(call.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    call.output.mkdir(parents=True, exist_ok=True)
    parts = build_parts(call, device)
    if "images" in parts and parts["images"].todo():
        check_data(call.data)
    facts = machine.describe(device, call.command)
    say(machine.headline(facts))
    say(describe_rest(parts))
    failures = list[str]()
    work = Budget(budget.end - min(REPORT_S, 0.1 * call.seconds), budget.clock)
    try:
        for name, part in parts.items():
            failures += run_part(name, part, work.until(ENDS[name], call.seconds))
            _report(call, parts, facts)
        # Time that the later parts have left over.
        for name, part in list(parts.items())[:1]:
            failures += run_part(name, part, work)
    finally:
        _report(call, parts, facts)
    say(describe_rest(parts))
    say(f"written to {call.output}")
    return 1 if failures else 0


def check_data(data_root: Path) -> None:
    """Refuse a data root without the images, before minutes are spent.

    Raises
    ------
    ImageDataError
        If their folder is not there.
    """
    folder = find_folder(DATASET, data_root)
    if not folder.is_dir():
        remedy = "Give --data, or leave the part out: --part speed,vit."
        raise ImageDataError(str(folder), "no such folder.", remedy)


def run_part(name: str, part: Part, budget: Budget) -> list[str]:
    """Run one part; what breaks it is told and does not keep the next part from running."""
    try:
        part.run(budget)
    except Exception as error:  # of whatever kind: the minutes are dear
        say(traceback.format_exc())
        say(f"{name} stopped: {describe_failure(error)}")
        return [name]
    return []


def build_parts(call: Call, device: torch.device) -> dict[str, Part]:
    """Build the parts that are asked for, with the rows that are there."""
    plan = build_plan(call.seed, call.epochs, call.quick)

    def rows(name: str) -> Rows:
        return Rows(call.output / "rows" / f"{name}.jsonl")

    def load() -> DeviceImages:
        return load_on_device(plan[0], call.data, device, call.quick)

    every: dict[str, Part] = {
        "images": ImagesPart(plan, rows("images"), call.output, device, load),
        "speed": SpeedPart(build_cells(call.quick), rows("speed"), device),
        "vit": VitPart(build_profiles(call.quick), rows("vit"), device),
    }
    return {name: every[name] for name in PARTS if name in call.parts}


def describe_rest(parts: Mapping[str, Part]) -> str:
    """Say in one line what is left of each part and how long it takes."""
    told = []
    for name, part in parts.items():
        count, seconds = len(part.todo()), part.left_s()
        about = f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
        time_left = "not timed yet" if math.isnan(seconds) else about
        told.append(f"{name} {count} ({time_left})" if count else f"{name} done")
    return "left: " + ", ".join(told)


def _report(call: Call, parts: Mapping[str, Part], facts: Mapping[str, object]) -> None:
    facts = {**facts, "rest": describe_rest(parts)}
    atomic_write_text(call.output / "machine.json", json.dumps(facts, indent=2) + "\n")
    images = parts.get("images")
    together = Rows(call.output / "rows" / "together.jsonl")
    for width, gain in images.together.gains.items() if isinstance(images, ImagesPart) else ():
        together.add(str(width), {"width": width, "gain": gain})
    gains = {row["width"]: row["gain"] for row in together.table().to_dict("records")}
    kept = [Rows(call.output / "rows" / f"{name}.jsonl").table() for name in PARTS]
    caption = "; reduced: tiny networks" if call.quick else ""
    tables = Tables(kept[0], kept[1], kept[2], gains, caption)
    reduced = (
        ["Reduced: tiny networks; it shows that all of it runs, no more."] if call.quick else []
    )
    write(tables, call.output, [f"`{call.command}`", machine.headline(facts), *reduced])
