"""One file that holds all a run needs to go on: weights, optimizers, history. No pickle.

Randomness needs no state here: every epoch starts its generators from a seed derived from the
run's seed and the epoch's number.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import Optimizer

from brainage.errors import CheckpointError
from brainage.files import parse_json, read_sealed, write_sealed

CHECKPOINT_VERSION = "2"
START_ANEW = "Delete it and use --resume: what else is finished stays, this run starts anew."


@dataclass(frozen=True)
class Checkpoint:
    """State after a finished epoch.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
        ``model.*``, ``best.*`` and ``optimizer.<block>.<parameter>.<key>``.
    state : dict
        Epochs done, history, best epoch: plain JSON.
    run_hash : str
        Identifies configuration and data; a checkpoint of another run is refused.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    run_hash: str

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Tensors under a prefix, without it."""
        start = prefix + "."
        return {k[len(start) :]: v for k, v in self.tensors.items() if k.startswith(start)}


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint in one atomic replacement: it is there whole, or the former one is.

    The file is in the format of safetensors, then comes the SHA-256 of it.
    """
    metadata = {
        "version": CHECKPOINT_VERSION,
        "run_hash": checkpoint.run_hash,
        "state": json.dumps(checkpoint.state),
    }
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    write_sealed(path, save(tensors, metadata=metadata))


def load_checkpoint(path: Path, run_hash: str) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        If the file is damaged, of an unknown version, or of another run.
    """
    payload = read_sealed(path)
    try:
        if payload is None:
            raise ValueError("a bit has changed, or it was written by an older version")
        # Cloned: in the file's bytes a tensor may begin anywhere.
        tensors = {name: tensor.clone() for name, tensor in load(payload).items()}
        metadata = _read_metadata(payload)
        state = parse_json(metadata["state"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(str(path), "is damaged.", START_ANEW) from error
    if metadata.get("version") != CHECKPOINT_VERSION:
        raise CheckpointError(str(path), f"has unknown version {metadata.get('version')!r}.")
    if metadata.get("run_hash") != run_hash:
        raise CheckpointError(
            str(path),
            "belongs to a run with other settings or other scans.",
            "Resume with the same command, or choose another --output.",
        )
    return Checkpoint(tensors, state, run_hash)


def _read_metadata(payload: bytes) -> dict[str, str]:
    """Texts in the header of a safetensors file: its length in 8 bytes, then JSON."""
    length = int.from_bytes(payload[:8], "little")
    metadata: dict[str, str] = parse_json(payload[8 : 8 + length])["__metadata__"]
    return metadata


def optimizer_tensors(optimizers: list[Optimizer]) -> dict[str, Tensor]:
    """State of all optimizers as flat named tensors."""
    tensors = {}
    for block_index, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                name = f"optimizer.{block_index}.{parameter}.{key}"
                tensors[name] = torch.as_tensor(value).clone()
    return tensors


def restore_optimizers(optimizers: list[Optimizer], checkpoint: Checkpoint) -> None:
    """Put the saved state back; learning rates follow from the step and are not part of it.

    Moments get their parameter's order in memory, which fused optimizers rely on.
    """
    for block_index, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in checkpoint.group(f"optimizer.{block_index}").items():
            parameter, key = name.split(".", 1)
            state.setdefault(int(parameter), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        for weight, values in optimizer.state.items():
            for key, value in values.items():
                if value.shape == weight.shape and value.stride() != weight.stride():
                    values[key] = torch.empty_like(weight, requires_grad=False).copy_(value)
