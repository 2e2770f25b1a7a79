"""What other programs' names say of a file: fMRIPrep, sMRIPrep and FreeSurfer derivatives."""

from dataclasses import dataclass
from pathlib import Path

_FREESURFER_BRAINS = ("brain.mgz", "brainmask.mgz", "norm.mgz", "brain.finalsurfs.mgz")
_FREESURFER_HEADS = ("T1.mgz", "orig.mgz", "nu.mgz", "rawavg.mgz")
_PREPROCESSED, _MASK = "_desc-preproc_T1w.nii", "_desc-brain_mask.nii"


@dataclass(frozen=True)
class Derivative:
    """What a file's name says.

    Attributes
    ----------
    label : str
        The program and kind of file; empty where the name says nothing.
    mask : pathlib.Path, optional
        The brain mask that lies beside the file.
    """

    label: str = ""
    mask: Path | None = None


def find_derivative(path: str | Path) -> Derivative:
    """Recognise a derivative by its name, and find the mask beside it."""
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
