"""A site's own brain mask: a file beside the scan, or a command that makes one."""

import shlex
import subprocess
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from brainage.errors import ConfigError, VolumeError
from brainage.scans.volume import load_volume
from brainage.types import FloatArray, Volume

TIMEOUT_S = 1800
OPTION = "--brain-extraction-command"


def load_mask(path: str | Path, where: str) -> Volume:
    """Brain mask (0 or 1) from a mask or an extracted brain: whatever is above 0.

    Raises
    ------
    VolumeError
        If the file cannot be read.
    """
    volume = load_volume(path, where)
    mask: FloatArray = (volume.data > 0).astype(np.float32)
    return Volume(mask, volume.affine)


def check_command(command: str) -> list[str]:
    """Words of a command line that names its ``{input}`` and ``{output}``.

    Raises
    ------
    ConfigError
        If one of them is missing, or a quote is open.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(OPTION, f"is no command line ({error}).") from error
    if not any("{input}" in word for word in words) or "{output}" not in command:
        example = "'hd-bet -i {input} -o {output}'"
        raise ConfigError(OPTION, "must name {input} and {output}.", f"For example {example}.")
    return words


def extract_brain(volume: Volume, command: str, where: str) -> Volume:
    """Mask that a command makes of a volume; no shell is involved.

    Parameters
    ----------
    volume : Volume
        Written to ``{input}`` as NIfTI: voxels and affine alone.
    command : str
        Writes a mask or an extracted brain to ``{output}`` (.nii.gz).

    Raises
    ------
    ConfigError
        If the command is not valid or there is no such program.
    VolumeError
        If it fails, does not end, or writes nothing that can be read.
    """
    words = check_command(command)
    with tempfile.TemporaryDirectory(prefix="brainage-extract-") as private:
        source, target = Path(private) / "input.nii.gz", Path(private) / "output.nii.gz"
        nib.Nifti1Image(volume.data, volume.affine).to_filename(source)
        arguments = [
            word.replace("{input}", str(source)).replace("{output}", str(target)) for word in words
        ]
        try:
            subprocess.run(
                arguments,
                cwd=private,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=True,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise ConfigError(OPTION, f"there is no program {words[0]!r}.") from error
        except subprocess.TimeoutExpired as error:
            problem = f"the brain extraction did not end within {TIMEOUT_S} s."
            raise VolumeError(where, problem) from error
        except subprocess.CalledProcessError as error:
            problem = f"the brain extraction failed (exit status {error.returncode})."
            raise VolumeError(where, problem, "Run it by hand to see why.") from error
        return load_mask(target, f"{where}: brain extraction")
