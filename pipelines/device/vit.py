"""Part `vit`: times of the stages of ViT-B/16 on the device, and what they project to."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from brainage.config import Config, load_preset, with_changes
from brainage.errors import BrainageError
from brainage.images.sets import resolve_images
from brainage.lfnn.parallel.profile import StageTimes, cut_by_time, profile_stages
from brainage.lfnn.parallel.simulate import Link, project
from brainage.model.build import build_model, build_target, stage_names
from brainage.workflows.console import say
from pipelines.device.budget import Budget
from pipelines.device.rows import MEMORY, OK, Rows, describe_failure, settings_key

BLOCKS, DEVICES, STEPS = 16, (2, 4, 8, 16), 100
LINK = Link(latency_s=10e-6, bytes_per_s=450e9)
"""Assumed, not measured: NVLink of an H200, 450 GB/s in each direction."""
NEEDED_S = 15.0


@dataclass(frozen=True)
class Profile:
    """One profile of all stages.

    Attributes
    ----------
    precision : {"float32", "bfloat16"}
        Of weights and features; losses are float32.
    """

    precision: str
    batch_size: int
    narrow: bool = False
    repeats: int = 20

    @property
    def key(self) -> str:
        """Hash of the settings."""
        return settings_key([asdict(self), BLOCKS])

    def config(self) -> Config:
        """Every stage of ViT-B/16 is a block with a head."""
        changes: dict[str, Any] = {"training.batch_size": self.batch_size}
        if self.narrow:
            small = {"size": "tiny", "patch_size": 112, "layers": 8, "split_layers": True}
            changes["network.arguments"] = small
        config = resolve_images(with_changes(load_preset("vit_b16", "images"), changes, "vit"))
        return with_changes(config, {"learning.cuts": stage_names(config)}, "vit")


def build_profiles(quick: bool = False) -> list[Profile]:
    """Profiles, the most telling one first."""
    if quick:
        return [Profile("float32", 2, narrow=True, repeats=1)]
    return [Profile("bfloat16", 128), Profile("float32", 32)]


@dataclass
class VitPart:
    """All that the part works with.

    Attributes
    ----------
    rows : Rows
        One row a profile, its stages and projections inside.
    """

    profiles: Sequence[Profile]
    rows: Rows
    device: torch.device

    def todo(self) -> list[Profile]:
        """Profiles without a row that stays."""
        return [profile for profile in self.profiles if not self.rows.is_done(self._key(profile))]

    def left_s(self) -> float:
        """Seconds that the rest takes, by what profiles took so far."""
        done = [self.rows.get(self._key(profile)) for profile in self.profiles]
        known = [row["row_s"] for row in done if row]
        count = len(self.todo())
        return count * max(known) if known and count else (math.nan if count else 0.0)

    def run(self, budget: Budget) -> None:
        """Measure one profile after another while there is time."""
        for profile in self.todo():
            if not budget.allows(NEEDED_S):
                return
            start = budget.clock()
            row: dict[str, Any] = asdict(profile)
            try:
                stages = measure_stages(profile, self.device)
                row |= {"stages": [asdict(s) for s in stages], "projection": project_all(stages)}
                row["status"] = OK
            except (RuntimeError, MemoryError, BrainageError, ValueError) as error:
                row["status"] = describe_failure(error)
            self.rows.add(self._key(profile), row | {"row_s": budget.clock() - start})
            say(f"ViT-B/16, {profile.precision}, batch {profile.batch_size}: {row['status']}")
            if row["status"] not in (OK, MEMORY):
                return

    def _key(self, profile: Profile) -> str:
        return f"{profile.key}-{self.device.type}"


def measure_stages(profile: Profile, device: torch.device) -> list[StageTimes]:
    """Time every stage on random images."""
    config = profile.config()
    kind = getattr(torch, profile.precision)
    stack = build_model(config).to(device, kind)
    inputs = torch.randn(profile.batch_size, *config.input_shape).to(device, kind)
    target = torch.arange(profile.batch_size, device=device) % 2
    measured = profile_stages(stack, inputs, target, build_target(config.target), profile.repeats)
    named = zip(measured, stage_names(config), strict=True)
    return [replace(stage, name=name) for stage, name in named]


def project_all(stages: Sequence[StageTimes]) -> list[dict[str, Any]]:
    """Project an epoch of 16 blocks, and of one block a device."""
    rows = []
    for devices in DEVICES:
        for blocks in sorted({devices, BLOCKS}):
            parts = cut_by_time(stages, blocks)
            rows.append(project(parts, devices, STEPS, LINK))
    return rows
