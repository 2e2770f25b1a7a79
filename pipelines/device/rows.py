"""Rows of results that are kept as they come, under a hash of their settings."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from brainage.errors import DeviceMemoryError
from brainage.files import atomic_write_text, sha256_bytes

OK, MEMORY, DIVERGED = "ok", "out of memory", "diverged"
FINAL = frozenset({OK, MEMORY, DIVERGED})
"""What a row may end with that no later call does again; a failure for other reasons is."""

Row = dict[str, Any]


def describe_failure(error: BaseException) -> str:
    """Say in one line why something ended: out of memory is a result, the rest a failure."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError | DeviceMemoryError):
        return MEMORY
    lines = str(error).splitlines() or [""]
    return f"failed: {type(error).__name__}: {lines[0][:160]}"


def settings_key(settings: object) -> str:
    """Short hash of settings that can be written as JSON."""
    return sha256_bytes(json.dumps(settings, sort_keys=True).encode())[:12]


@dataclass
class Rows:
    """Rows of one part in one file of JSON lines, replaced whole with every row.

    Attributes
    ----------
    path : pathlib.Path
        The file; lines that cannot be read are dropped.
    """

    path: Path
    _rows: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for line in lines:
            try:
                row = json.loads(line)
                self._rows[row["key"]] = row
            except (ValueError, LookupError, TypeError):
                continue

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> Row | None:
        """Return the row of these settings, finished or not."""
        return self._rows.get(key)

    def is_done(self, key: str) -> bool:
        """Tell whether these settings have a row that stays."""
        return self._rows.get(key, {}).get("status") in FINAL

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Keep a row, in place of a former one of the same settings."""
        self._rows[key] = {"key": key, **row}
        lines = [json.dumps(kept) for kept in self._rows.values()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(self.path, "\n".join(lines) + "\n")

    def table(self) -> pd.DataFrame:
        """All rows, in the order in which their settings first came."""
        return pd.DataFrame(list(self._rows.values()))
