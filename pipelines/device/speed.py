"""Part `speed`: steps of the brain-age networks on the device, all ways of training them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean

import torch

from brainage.workflows.console import say
from pipelines.device.budget import Budget
from pipelines.device.cells import Cell, measure
from pipelines.device.rows import OK, Rows, describe_failure, settings_key

NETWORKS = ("resnet3d", "sfcn", "usc_cnn3d", "vit3d")
SMALL, LARGE = (128, 128, 128), (160, 192, 160)
WAYS = ("BP", "LFNN-ℓ", "LFNN-ℓ streams", "BP graph", "LFNN-ℓ graph", "BP checkpointed")
LAYOUTS = ("channels_last", "no cuDNN")
COMPILING_S, USUAL_S = 60.0, 6.0
"""What a row may take that was never measured: it is not begun where less time is left."""


def build_cells(quick: bool = False) -> list[Cell]:
    """All rows, those first that tell most."""
    if quick:
        shape, tiny = (16, 16, 16), partial(Cell, narrow=True)
        cells = [tiny(n, shape, "float32", how) for n in NETWORKS for how in WAYS[:2]]
        ways = [tiny("resnet3d", shape, "float32", how) for how in WAYS[2:]]
        layouts = [tiny("resnet3d", shape, "float32", "BP", layout) for layout in LAYOUTS]
        return cells + ways + layouts

    def all_ways(shape: tuple[int, int, int], precision: str) -> list[Cell]:
        return [Cell(name, shape, precision, how) for name in NETWORKS for how in WAYS]

    def compiled(shape: tuple[int, int, int], precision: str) -> list[Cell]:
        return [Cell(name, shape, precision, "BP compiled") for name in NETWORKS]

    half, single = "bfloat16", "float32"
    layouts = [Cell(name, SMALL, half, "BP", layout) for name in NETWORKS for layout in LAYOUTS]
    return [
        *all_ways(SMALL, half),
        *layouts,
        *all_ways(LARGE, half),
        *all_ways(SMALL, single),
        *compiled(SMALL, half),
        *all_ways(LARGE, single),
        *compiled(LARGE, half),
        *compiled(SMALL, single),
    ]


@dataclass
class SpeedPart:
    """All that the part works with."""

    cells: Sequence[Cell]
    rows: Rows
    device: torch.device

    def todo(self) -> list[Cell]:
        """Cells without a row that stays."""
        return [cell for cell in self.cells if not self.rows.is_done(self._key(cell))]

    def left_s(self) -> float:
        """Seconds that the rest takes, by what rows took so far."""
        todo, known = self.todo(), self._known_s()
        return mean(known) * len(todo) if known and todo else (math.nan if todo else 0.0)

    def run(self, budget: Budget) -> None:
        """Measure one cell after another while there is time."""
        for cell in self.todo():
            if not budget.allows(COMPILING_S if "compiled" in cell.how else USUAL_S):
                continue
            start = budget.clock()
            row = {**cell.settings, "shape": "×".join(map(str, cell.shape))}
            try:
                row |= {**measure(cell, self.device), "status": OK}
                told = f"{row['step_ms']:.2f} ms, {row['peak_memory_mb']:.0f} MB"
            except Exception as error:  # compilers have many kinds of failure
                row["status"] = told = describe_failure(error)
            self.rows.add(self._key(cell), row | {"row_s": budget.clock() - start})
            say(f"{cell.name}: {told}; {len(self.todo())} rows left")
            check_alive(self.device)

    def _key(self, cell: Cell) -> str:
        return settings_key([cell.settings, self.device.type])

    def _known_s(self) -> list[float]:
        rows = [self.rows.get(self._key(cell)) for cell in self.cells]
        return [row["row_s"] for row in rows if row]


def check_alive(device: torch.device) -> None:
    """Stop where the device itself has failed: every later row would fail too.

    Raises
    ------
    RuntimeError
        Torch's own.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
