"""From a DICOM folder to a volume: choose the series, convert it with dcm2niix, keep voxels only.

dcm2niix: Li et al. 2016, doi:10.1016/j.jneumeth.2016.03.001; its PyPI package carries the program.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainage.errors import VolumeError
from brainage.extras import require
from brainage.scans.dicom.choice import describe_series
from brainage.scans.dicom.frames import find_order, write_in_order
from brainage.scans.dicom.read import read_images
from brainage.scans.dicom.series import Series, choose_series, list_series
from brainage.scans.volume import load_volume
from brainage.types import Volume

TIMEOUT_S = 300
# Distances between slices that differ by a smaller share are one.
SAME_STEP = 1e-3
# No sidecar, anonymous, no compression, no user defaults, all images of one series into one file.
_ARGUMENTS = ("-b", "n", "-ba", "y", "-c", "", "-g", "i", "-z", "n", "-m", "2", "-f", "volume")


@dataclass(frozen=True)
class DicomReading:
    """A converted series.

    Attributes
    ----------
    volume : Volume
        Rebuilt from voxels and affine: nothing else of the files is left.
    choice : str
        Which series it is, of how many, why, and whether with a contrast agent; holds no patient
        data.
    words : str
        The same without any text of the file, as a report may say it.
    age_years : float, optional
        PatientAge of its header.
    sex : str
        PatientSex of its header, F or M, else empty.
    contrast_agent : bool
        Whether one was given.
    """

    volume: Volume
    choice: str
    words: str
    age_years: float | None
    sex: str
    contrast_agent: bool


def read_dicom(files: Iterable[Path], where: str, *, series: str | None = None) -> DicomReading:
    """Choose the T1 series among DICOM files, check that it is whole, and convert it.

    Parameters
    ----------
    files : iterable of pathlib.Path
        Files of one examination; those that are not DICOM are passed over.
    where : str
        Scan named in errors.
    series : str, optional
        See `choose_series`.

    Raises
    ------
    VolumeError
        If no series can be used, several could, or dcm2niix fails.
    """
    listed = list_series(read_images(files, where))
    chosen, why = choose_series(listed, series, where)
    choice = f"DICOM series {chosen}, of {len(listed)} series: {why}"
    if chosen.has_contrast:
        choice += "; with contrast agent"
    if chosen.copies:
        slices = "slice was" if chosen.copies == 1 else "slices were"
        choice += f"; {chosen.copies} identical copied {slices} left out"
    words = f"{describe_series(chosen)}; {why}, of {len(listed)} series"
    first, volume = chosen.images[0], _convert(chosen, where)
    return DicomReading(volume, choice, words, first.age_years, first.sex, chosen.has_contrast)


def _convert(series: Series, where: str) -> Volume:
    with tempfile.TemporaryDirectory(prefix="brainage-dicom-") as private:
        source, made_in = Path(private) / "in", Path(private) / "out"
        source.mkdir()
        made_in.mkdir()
        for number, image in enumerate(series.images):
            target = source / f"{number:06d}.dcm"
            if order := find_order(image):
                write_in_order(image.path, order, target, where)
            else:
                _place(image.path, target, where)
        _run([*_ARGUMENTS, "-o", str(made_in), str(source)], Path(private), where)
        made = sorted(made_in.glob("*.nii"))
        if len(made) != 1:
            problem = f"dcm2niix made {len(made)} volumes of series {series}, expected one."
            raise VolumeError(where, problem, "Convert it by hand and give the NIfTI file.")
        volume = load_volume(made[0], where)
    rows, columns = series.images[0].matrix
    if sorted(volume.data.shape) != sorted((rows, columns, series.slices)):
        problem = f"dcm2niix made a volume of shape {volume.data.shape} of series {series}."
        raise VolumeError(where, problem, "Convert it by hand and give the NIfTI file.")
    return _settle_slices(volume, series)


def _settle_slices(volume: Volume, series: Series) -> Volume:
    """Take the distance between slices from all of their places.

    dcm2niix takes that of the first two: of 1.03 mm it makes 1.1 mm where places have one decimal.
    """
    to_ras = np.array([-1.0, -1.0, 1.0])
    row, column = np.reshape(series.images[0].orientation, (2, 3)) * to_ras
    normal = np.cross(row, column)
    along = np.array([place for image in series.images for place in image.positions_mm]) @ (
        to_ras * normal
    )
    step = np.ptp(along) / (len(along) - 1)
    affine = volume.affine.copy()
    axis = int(np.abs(normal @ affine[:3, :3]).argmax())
    sign = np.sign(normal @ affine[:3, axis])
    if abs(np.linalg.norm(affine[:3, axis]) / step - 1) < SAME_STEP:
        return volume
    affine[:3, axis] = sign * step * normal
    start = along.min() if sign > 0 else along.max()
    affine[:3, 3] += normal * (start - normal @ affine[:3, 3])
    return Volume(volume.data, affine)


def _place(path: Path, target: Path, where: str) -> None:
    """Put a file into the private folder under a name that tells nothing."""
    try:
        target.symlink_to(path.resolve())
    except OSError:  # file systems without links
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise VolumeError(where, f"cannot be read ({error.strerror}).") from error


def _run(arguments: list[str], folder: Path, where: str) -> None:
    program = require("dcm2niix", "dicom").bin
    try:
        subprocess.run(
            [program, *arguments],
            cwd=folder,
            env={"HOME": str(folder), "PATH": os.environ.get("PATH", "")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise VolumeError(where, f"dcm2niix did not end within {TIMEOUT_S} s.") from error
    except (OSError, subprocess.CalledProcessError) as error:
        # Its output names the patient: only the exit status is told.
        status = getattr(error, "returncode", None) or error
        problem = f"dcm2niix failed ({status})."
        raise VolumeError(where, problem, "Convert it by hand and give the NIfTI file.") from error
