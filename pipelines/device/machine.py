"""Facts of the machine and of the call: what a figure from a device must name."""

import os
import platform
import subprocess
import sys

import torch

from brainage.model.bundle import git_commit
from brainage.types import Json


def describe(device: torch.device, command: str) -> Json:
    """Name device, driver, versions, commit and command.

    Where the folder is a copy without git, the variable COMMIT names the commit.
    """
    facts: Json = {
        "command": command,
        "commit": os.environ.get("COMMIT") or git_commit()[:7],
        "device": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "device": properties.name,
            "memory_mb": properties.total_memory / 2**20,
            "driver": _ask("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "cudnn": torch.backends.cudnn.version(),
        }
    return facts


def headline(facts: Json) -> str:
    """Write the facts as one line."""
    parts = [f"{facts['device']}", f"{facts['cores']} cores", f"torch {facts['torch']}"]
    if "driver" in facts:
        parts += [f"CUDA {facts['cuda']}", f"driver {facts['driver']}"]
    return ", ".join([*parts, f"commit {facts['commit']}"])


def _ask(*command: str) -> str:
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return asked.stdout.strip() or "unknown"
