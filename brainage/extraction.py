"""Brain masks that others made: a given file, a derivative's own mask, or a site's own command.

The command is run as a list of arguments, never through a shell, and never comes from a model
file: who opens a stranger's model must not run a stranger's program.
"""

import hashlib
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from brainage.data.volume import load_volume
from brainage.errors import ConfigError, PreparationError
from brainage.files import sha256_file
from brainage.types import Volume

# A whole human brain, with room for children and for masks that hold all fluid.
MIN_LITRES, MAX_LITRES = 0.4, 3.0
INPUT, OUTPUT = "{input}", "{output}"

_FREESURFER_BRAINS = ("brain.mgz", "brainmask.mgz", "norm.mgz", "brain.finalsurfs.mgz")
_FREESURFER_HEADS = ("T1.mgz", "orig.mgz", "nu.mgz", "rawavg.mgz")
_PREPROCESSED, _MASK = "_desc-preproc_T1w.nii", "_desc-brain_mask.nii"


@dataclass(frozen=True)
class Extraction:
    """How the brain is found, where our own way is not wanted.

    Attributes
    ----------
    mask : pathlib.Path, optional
        Image in the scan's world whose voxels above 0 are brain.
    command : tuple of str
        Program and arguments; ``{input}`` becomes a NIfTI file of the scan, ``{output}`` the
        file that the program has to write: a mask, or the scan with 0 outside the brain.
    timeout_s : float
        After so many seconds the program is stopped.

    Raises
    ------
    ConfigError
        If both are given, or the command lacks a placeholder.
    """

    mask: Path | None = None
    command: tuple[str, ...] = ()
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        if self.mask is not None and self.command:
            raise ConfigError("--mask", "give a mask or a brain extraction command, not both.")
        text = " ".join(self.command)
        if self.command and not (INPUT in text and OUTPUT in text):
            problem = f"needs {INPUT} and {OUTPUT} among its arguments, got {text!r}."
            raise ConfigError("--brain-extraction-command", problem)

    def content_hash(self, path: str | Path) -> str:
        """SHA-256 of what decides the mask of a scan: a mask's bytes, or the command."""
        mask = self.mask or find_derivative(path).mask
        content = sha256_file(mask) if mask is not None else "\0".join(self.command)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Derivative:
    """What another program's naming says about a file.

    Attributes
    ----------
    label : str
        The program's kind of file; empty where the name says nothing.
    mask : pathlib.Path, optional
        The brain mask that lies beside it.
    """

    label: str = ""
    mask: Path | None = None


def find_derivative(path: str | Path) -> Derivative:
    """Recognise fMRIPrep, sMRIPrep and FreeSurfer files by name, and the mask beside them."""
    file = Path(path)
    if _PREPROCESSED in file.name:
        mask = file.with_name(file.name.replace(_PREPROCESSED, _MASK))
        return Derivative("fMRIPrep/sMRIPrep derivative", mask if mask.is_file() else None)
    if file.name in _FREESURFER_BRAINS:
        return Derivative("FreeSurfer brain")
    mask = file.with_name("brainmask.mgz")
    if file.name in _FREESURFER_HEADS and mask.is_file():
        return Derivative("FreeSurfer head", mask)
    return Derivative()


def load_mask(
    path: str | Path, volume: Volume, extraction: Extraction, where: str
) -> Volume | None:
    """Brain mask of a scan that somebody else made; None where the brain is ours to find.

    Raises
    ------
    VolumeError
        If the mask cannot be read.
    PreparationError
        If the command fails, or the mask is not of a brain's size.
    """
    if extraction.command:
        return _run(extraction, volume, where)
    mask = extraction.mask or find_derivative(path).mask
    return None if mask is None else _read_mask(mask, where)


def _run(extraction: Extraction, volume: Volume, where: str) -> Volume:
    with tempfile.TemporaryDirectory(prefix="brainage-extraction-") as private:
        source, target = Path(private, "input.nii.gz"), Path(private, "output.nii.gz")
        nib.save(nib.Nifti1Image(volume.data, volume.affine), source)
        filled = [
            argument.replace(INPUT, str(source)).replace(OUTPUT, str(target))
            for argument in extraction.command
        ]
        try:
            done = subprocess.run(
                filled, capture_output=True, timeout=extraction.timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            problem = f"brain extraction took longer than {extraction.timeout_s:g} s."
            raise PreparationError(where, problem) from error
        except OSError as error:
            problem = f"{filled[0]!r} cannot be started ({error.strerror})."
            raise PreparationError(where, problem, "Check the command.") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            problem = f"brain extraction ended with code {done.returncode}, saying: {said[0]}"
            raise PreparationError(where, problem)
        if not target.is_file():
            problem = f"brain extraction wrote nothing to {OUTPUT}."
            raise PreparationError(where, problem, "Check the command.")
        return _read_mask(target, where)


def _read_mask(path: Path, where: str) -> Volume:
    image = load_volume(path, f"{where} (mask {path.name})")
    inside = image.data > 0
    litres = float(inside.sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1e6)
    if not MIN_LITRES <= litres <= MAX_LITRES:
        problem = (
            f"the mask {path.name} holds {litres:.2f} L, "
            f"expected {MIN_LITRES} to {MAX_LITRES} L of brain."
        )
        raise PreparationError(where, problem, "Check the mask.")
    return Volume(inside.astype(np.float32), image.affine)
