"""Series of an examination for a reader who has to choose one: plain words, the best T1 first.

The words are made from numbers and from a list of our own; no text of the file is among them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from brainage.scans.dicom.read import DicomImage
from brainage.scans.dicom.series import Series, Weighting, check_one_patient

_WEIGHTING_WORDS: dict[Weighting, str] = {
    "T1": "looks T1-weighted",
    "other": "not T1-weighted",
    "unknown": "weighting not known",
}
# By the axis along which the slices are stacked: left to right, front to back, foot to head.
_DIRECTIONS = ("sagittal", "coronal", "axial")
# As `read_dicom` tells its choice: the description, which stands in quotes, may hold anything.
_CHOICE = re.compile(
    r"DICOM series (\S+) '.*' \(MR, (\d+) slices of (\d+)x(\d+)(?:, (\w+ [\w ]+))?\), "
    r"of (\d+) series: (asked for|the only one that [^;]+)"
    r"(; with contrast agent)?(?:; \d+ identical copied slices? \w+ left out)?"
)
_RANK: dict[Weighting, int] = {"T1": 0, "unknown": 1, "other": 2}


@dataclass(frozen=True)
class SeriesChoice:
    """One series as a reader sees it.

    Attributes
    ----------
    uid : str
        Names it in `choose_series`; for programs, not for eyes.
    words : str
        What it is, without any text of the file.
    problem : str
        Why it cannot be used; empty if it can.
    looks_t1 : bool
        Whether it is T1-weighted, by its name or its timing.
    age_years, sex : float and str, optional
        Of the header, to be offered to the reader: taken only if the reader says so.
    """

    uid: str
    words: str
    problem: str
    looks_t1: bool
    age_years: float | None = field(default=None, repr=False)
    sex: str = field(default="", repr=False)


def offer_series(series: Sequence[Series], where: str) -> list[SeriesChoice]:
    """Series of one patient, the one that suits best first, unusable ones last.

    Better is: T1-weighted, without contrast agent, original rather than derived, fine in its
    coarsest direction, corrected for the coil, earlier.

    Raises
    ------
    VolumeError
        If the series are of several patients.
    """
    check_one_patient(series, where)
    numbered = sorted(enumerate(series), key=lambda pair: (bool(pair[1].problem), *_rank(*pair)))
    return [
        SeriesChoice(
            one.images[0].series_uid,
            describe_series(one),
            one.problem,
            one.weighting == "T1",
            one.images[0].age_years,
            one.images[0].sex,
        )
        for _, one in numbered
    ]


def describe_series(series: Series) -> str:
    """Return number, weighting, contrast agent, slices and direction of a series."""
    first = series.images[0]
    rows, columns = first.matrix
    kind = _WEIGHTING_WORDS[series.weighting] if first.modality == "MR" else "no MRI"
    parts = [f"{kind}, with contrast agent" if series.has_contrast else kind]
    if "DERIVED" in first.image_type:
        parts.append("computed from other images")
    direction = _direction(first)
    parts.append(f"{series.slices} {direction} slices".replace("  ", " "))
    parts.append(f"{rows} × {columns} pixels")
    return f"{_call_series(first.series_number, series.which)}: {', '.join(parts)}"


def _call_series(number: str, which: str | None) -> str:
    place = f" ({which})" if which else ""
    return f"Series {number if number.isdecimal() else 'without number'}{place}"


def split_choice(reason: str) -> tuple[str, str]:
    """Split off a ledger's reason which DICOM series was taken, in words without text of the file.

    Returns
    -------
    tuple of str (2,)
        Words, empty where the reason tells of no series, and the rest of the reason.

    Examples
    --------
    >>> told = "DICOM series 3 'MPRAGE' (MR, 176 slices of 256x240), of 2 series: asked for"
    >>> split_choice(f"noise; {told}")
    ('Series 3: 176 slices, 256 × 240 pixels; asked for, of 2 series', 'noise')
    """
    found = _CHOICE.search(reason)
    if found is None:
        return "", reason
    number, slices, rows, columns, which, count, why, contrast = found.groups()
    agent = "with contrast agent, " if contrast else ""
    name = _call_series(number, which)
    words = f"{name}: {agent}{slices} slices, {rows} × {columns} pixels; {why}"
    rest = (part.strip("; ") for part in (reason[: found.start()], reason[found.end() :]))
    return f"{words}, of {count} series", "; ".join(filter(None, rest))


def _rank(place: int, series: Series) -> tuple[float, ...]:
    first = series.images[0]
    return (
        _RANK[series.weighting],
        series.has_contrast,
        "DERIVED" in first.image_type,
        round(_coarsest_mm(series), 1),
        "NORM" not in first.image_type,
        place,
    )


def _coarsest_mm(series: Series) -> float:
    """Largest edge of a voxel; unknown counts as coarse."""
    first = series.images[0]
    if len(first.orientation) != 6 or not first.pixel_mm or series.slices < 2:
        return np.inf
    positions = np.array([place for image in series.images for place in image.positions_mm])
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    return float(max(*first.pixel_mm, np.ptp(positions @ normal) / (series.slices - 1)))


def _direction(image: DicomImage) -> str:
    if len(image.orientation) != 6:
        return ""
    normal = np.cross(image.orientation[:3], image.orientation[3:])
    return _DIRECTIONS[int(np.abs(normal).argmax())]
