"""Cut a file to a third when this process opens it for the n-th time."""

import os
import sys
from pathlib import Path
from typing import Any

VICTIM = "FAULTS_VICTIM"
OPENING = "FAULTS_OPENING"

_left = [int(os.environ.get(OPENING, "0"))]


def cut(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook."""
    if event == "open" and _left[0] and str(arguments[0]) == os.environ.get(VICTIM):
        _left[0] -= 1
        if not _left[0]:
            os.truncate(arguments[0], Path(arguments[0]).stat().st_size // 3)


sys.addaudithook(cut)
