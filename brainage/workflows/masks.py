"""How scans are prepared, and whose brain masks are taken."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainage.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from brainage.prepared.arrays import Preparation


@dataclass(frozen=True)
class ScanOptions:
    """What the command line says of preparing scans.

    Attributes
    ----------
    jobs : int
        Scans at a time, each in a child process.
    mask : str
        Brain masks: a column of the table, or a path with {scan_id}, {subject_id}, {session_id}.
    command : str
        Brain extraction command with {input} and {output}, for scans without a mask.
    """

    jobs: int = 1
    mask: str = ""
    command: str = ""

    def build(self, table: "pd.DataFrame", folder: Path) -> "Preparation":
        """How to prepare the scans of a table; names in its column of masks start at `folder`.

        Raises
        ------
        ConfigError
            If the masks or the command cannot be understood.
        """
        from brainage.prepared.arrays import Preparation
        from brainage.sandbox.engines import Engine, EngineKind
        from brainage.sandbox.parent import Limits
        from brainage.scans.brain_extraction import check_command

        if self.command:
            check_command(self.command)
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        kind: EngineKind = "processes" if self.jobs > 1 else "serial"
        engine = Engine(kind, self.jobs, limits=Limits(threads=threads))
        return Preparation(engine, tuple(find_masks(table, self.mask, folder)), self.command)


def find_masks(table: "pd.DataFrame", mask: str, folder: Path) -> list[str]:
    """Mask file of each scan, or empty; names in a column start at the table's folder.

    Raises
    ------
    ConfigError
        If --mask is neither a column nor a path.
    """
    if not mask:
        return [""] * len(table)
    if mask in table:
        cells = [cell if isinstance(cell, str) else "" for cell in table[mask]]
        return [str(folder.absolute() / cell) if cell else "" for cell in cells]
    if "{" not in mask and (len(table) > 1 or not Path(mask).exists()):
        columns = ", ".join(table.columns)
        problem = f"{mask!r} is neither a column of the table nor a path that names {{scan_id}}."
        raise ConfigError("--mask", problem, f"Columns: {columns}.")
    try:
        names = ["scan_id", "subject_id", "session_id"]
        fields = table[[name for name in names if name in table]].to_dict("records")
        return [str(Path(mask.format_map(row)).absolute()) for row in fields]
    except (KeyError, ValueError, IndexError) as error:
        problem = f"{mask!r} holds an unknown field."
        remedy = "Use {scan_id}, {subject_id}, {session_id}."
        raise ConfigError("--mask", problem, remedy) from error
