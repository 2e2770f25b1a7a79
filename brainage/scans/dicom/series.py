"""DICOM series: what each one is, whether it is a whole volume, and which one is the T1."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from brainage.errors import VolumeError
from brainage.scans.dicom.pixels import PACKED_SYNTAXES, PLAIN_SYNTAXES, hash_pixels
from brainage.scans.dicom.read import DicomImage
from brainage.types import DoubleArray

# A head of 5 mm slices has 25 to 30 of them; localisers have 3 to 15.
MIN_SLICES = 20
# Fewer slices than this in more than one direction are a localiser, more are a mixed series.
MAX_LOCALISER_SLICES = 60
# Direction cosines are written with 6 or more digits; 1e-3 is 0.06 degrees.
ORIENTATION_TOLERANCE = 1e-3
# Steps of a real volume differ by less than this share, or by what rounding makes of them: some
# systems write positions with one decimal, which moves a slice by 0.05 mm along each axis.
STEP_TOLERANCE = 0.05
ROUNDING_MM = 0.11
SAME_PLACE_MM = 0.01
# Echo times of T1 sequences are short. Gradient echoes repeat within a second, or invert first
# (Brown et al. 2014, Magnetic Resonance Imaging, doi:10.1002/9781118633953).
MAX_T1_ECHO_MS, MAX_T1_REPETITION_MS, T1_INVERSION_MS = 20.0, 1000.0, (500.0, 1400.0)
MIN_T2_ECHO_MS = 60.0

Weighting = Literal["T1", "other", "unknown"]

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_CONTRAST_WORDS = re.compile(
    r"gd\b|gad|[ck]ontrast|\bkm\b|\bce\b|\+c\b|\bc\+|\bpost\b(?! ?op)|dotarem|prohance|omniscan"
)
# "T1 without contrast", but not "w/wo contrast" nor "with and without".
_NO_CONTRAST_WORDS = re.compile(
    r"(?<!and )(?<![/+&])\b(?:no|non|pre|without|w/?o|ohne|vor|sans|sin|senza)[ /]*(?:iv )?"
    r"(?:gd|gad\w*|[ck]ontrast\w*|km|ce)\b"
)
_CHOSEN_AS: dict[Weighting, str] = {
    "T1": "looks T1-weighted",
    "unknown": "may be T1-weighted: none says that it is",
}
_NEVER_WORDS = re.compile(
    r"t1 ?map|t1 images|t1 ?rho|molli|\bepi\b|ep2d|\bp?c?asl\b|pcasl|\brs ?fmri|\bb1\b|b1 ?map|"
    r"\bmip\b|subtract"
)
_NEVER_TYPES = {"T1 MAP", "T2 MAP", "ADC", "DIFFUSION", "FMRI", "ASL", "PERFUSION"}
_NEVER_TYPES |= {"P", "PHASE", "PHASE MAP", "IMAGINARY", "SUBTRACTION", "PROJECTION IMAGE", "MIP"}
# The t1 of "part1" and "rest1" is none.
_T1_WORDS = re.compile(r"(?<![a-z])t1(?!\d)|(?:ax|sag|cor|tra|2d|3d)t1(?!\d)|mp ?2?rage")
_T1_SEQUENCES = re.compile(r"spgr|bravo|\btfl|\btfe\b")
_LOCALISER_WORDS = re.compile(r"locali[sz]er|\bloc\b|scout|survey|plan scan")
_OTHER_WORDS = re.compile(
    r"t2|flair|\bpd|dwi|dti|diff|\badc\b|\bswi|bold|fmri|\bep2d|\btof|angio|\basl\b|perf|"
    r"field ?map|phase|\brest(ing)?(?![a-z])"
)


@dataclass(frozen=True)
class Series:
    """One series of an examination.

    Attributes
    ----------
    images : tuple of DicomImage
        At least one.
    weighting : {"T1", "other", "unknown"}
        By the words of its description, else by its timing.
    problem : str
        Why it is not a volume that can be used; empty if it is.
    copies : int
        Identical copies of its slices that were left out.
    which : str
        ``second examination`` where there are several, in the order of their dates; else ``second
        of its number`` where several series have one. Empty where there are neither.
    """

    images: tuple[DicomImage, ...]
    weighting: Weighting
    problem: str
    copies: int = 0
    which: str = ""

    @property
    def ordinal(self) -> str:
        """First word of `which`, by which it can be asked for."""
        return self.which.partition(" ")[0]

    @property
    def has_contrast(self) -> bool:
        """Whether a contrast agent was given, by the header or the words of the description."""
        first = self.images[0]
        words = _NO_CONTRAST_WORDS.sub(" ", _words(first))
        return first.contrast_agent or _CONTRAST_WORDS.search(words) is not None

    @property
    def slices(self) -> int:
        """Slices in all files of the series."""
        return sum(len(image.positions_mm) for image in self.images)

    def __str__(self) -> str:
        first = self.images[0]
        rows, columns = first.matrix
        name = f"{first.series_number or '?'} '{first.description}'"
        which = f", {self.which}" if self.which else ""
        return f"{name} ({first.modality}, {self.slices} slices of {rows}x{columns}{which})"


def list_series(images: Sequence[DicomImage]) -> list[Series]:
    """Group images by series, by examination and number, and check each."""
    groups: dict[str, list[DicomImage]] = defaultdict(list)
    for image in images:
        groups[image.series_uid].append(image)

    def order(group: list[DicomImage]) -> tuple[tuple[str, ...], str, int, str, str, str]:
        first = group[0]
        number = first.series_number
        digits = int(number) if number.isdecimal() else 0
        time = first.taken[-1] if first.taken else ""
        return first.taken[:-1], first.study_uid, digits, number, time, first.series_uid

    ordered = sorted(groups.values(), key=order)
    which = _tell_apart([group[0] for group in ordered])
    return [replace(_judge(group), which=one) for group, one in zip(ordered, which, strict=True)]


def _tell_apart(images: Sequence[DicomImage]) -> list[str]:
    """Return `Series.which` of the first image of each series."""
    studies = list(dict.fromkeys(image.study_uid for image in images if image.study_uid))
    if len(studies) > 1:
        places = [studies.index(one.study_uid) if one.study_uid else -1 for one in images]
        return [f"{_ordinal(place)} examination" if place >= 0 else "" for place in places]
    numbers = [image.series_number for image in images]
    return [
        f"{_ordinal(numbers[:place].count(number))} of its number"
        if numbers.count(number) > 1
        else ""
        for place, number in enumerate(numbers)
    ]


def _ordinal(place: int) -> str:
    return _ORDINALS[place] if place < len(_ORDINALS) else f"{place + 1}th"


def _judge(group: list[DicomImage]) -> Series:
    kept = drop_copies(group)
    copies = len(group) - len(kept)
    return Series(tuple(kept), find_weighting(kept[0]), find_problem(kept), copies)


def drop_copies(images: Sequence[DicomImage]) -> list[DicomImage]:
    """Leave out images with the pixels, place and timing of one before them."""
    places: dict[object, list[DicomImage]] = defaultdict(list)
    for image in images:
        timing = (image.echo_ms, image.repetition_ms, image.inversion_ms, image.image_type)
        places[(image.positions_mm, image.orientation, image.matrix, timing)].append(image)
    copies: set[int] = set()
    for group in places.values():
        if len(group) > 1:
            copies |= _find_copies(group)
    return [image for image in images if id(image) not in copies]


def _find_copies(images: Sequence[DicomImage]) -> set[int]:
    seen, copies = set(), set()
    for image in images:
        pixels = None if image.damage else hash_pixels(image.path)
        if pixels is not None and pixels in seen:
            copies.add(id(image))
        seen.add(pixels)
    return copies


def choose_series(series: Sequence[Series], wanted: str | None, where: str) -> tuple[Series, str]:
    """Return the T1 volume among several series, and why it is the one.

    Parameters
    ----------
    wanted : str, optional
        Number or UID of the series, or text, no number, that only its description holds;
        ``second`` or ``second:3`` where there are several examinations, or several series of one
        number. Absent: the only usable series that looks T1-weighted, else the only usable one of
        unknown weighting.

    Raises
    ------
    VolumeError
        If the files belong to several patients, none or several series fit, or the one that is
        wanted cannot be used.
    """
    check_one_patient(series, where)
    if wanted is None:
        return _choose_t1(series, where)
    ordinal, _, rest = wanted.partition(":")
    pool = [one for one in series if one.ordinal == ordinal.strip().lower()]
    if pool and not rest.strip():
        return _choose_t1(pool, where)
    chosen = _choose_wanted(pool or series, rest.strip() if pool else wanted, wanted, where)
    return chosen, "asked for"


def _choose_t1(series: Sequence[Series], where: str) -> tuple[Series, str]:
    usable = [one for one in series if not one.problem]
    if not usable:
        reasons = "; ".join(f"series {one}: {one.problem}" for one in series)
        raise VolumeError(where, f"no DICOM series can be used. {reasons}.")
    for weighting, words in _CHOSEN_AS.items():
        fitting = [one for one in usable if one.weighting == weighting]
        if len(fitting) == 1:
            return fitting[0], f"the only one that {words}"
        if fitting:
            problem = f"{len(fitting)} series could be the T1: {_list(fitting)}."
            raise VolumeError(where, problem, _how_to_choose(fitting))
    problem = f"no series looks T1-weighted: {_list(usable)}."
    raise VolumeError(where, problem, "Choose one with --series NUMBER if it is.")


def _how_to_choose(series: Sequence[Series]) -> str:
    first = series[0]
    if not first.ordinal:
        return "Choose one with --series NUMBER."
    return f"Choose one, for example with --series {first.ordinal}:{first.images[0].series_number}."


def check_one_patient(series: Sequence[Series], where: str) -> None:
    """Refuse series of several patients.

    Raises
    ------
    VolumeError
        If the headers name more than one.
    """
    images = [image for one in series for image in one.images if image.matrix != (0, 0)]
    check_people({image.patient for image in images}, where)


def check_people(people: set[tuple[str, str]], where: str) -> None:
    """Refuse ids and names, in pairs, that are of more than one patient.

    Raises
    ------
    VolumeError
        If they are.
    """
    ids, names = {number for number, _ in people}, {name for _, name in people}
    # An id or name that is missing in some files tells no one apart, as long as the other is there.
    is_unnamed = len(people) > 1 and ("", "") in people
    if is_unnamed or len(ids - {""}) > 1 or len(names - {""}) > 1 or _are_apart(people):
        problem = "holds series of more than one patient."
        raise VolumeError(where, problem, "Give the folder of one examination.")


def _are_apart(people: set[tuple[str, str]]) -> bool:
    """Whether some have an id alone and others a name alone: nothing says that they are one."""
    is_linked = any(number and name for number, name in people)
    return len(people) > 1 and not is_linked


def _choose_wanted(series: Sequence[Series], wanted: str, given: str, where: str) -> Series:
    names = [(one.images[0].series_number, one.images[0].series_uid) for one in series]
    numbered = [one for one, known in zip(series, names, strict=True) if wanted in known]
    text = wanted.lower()
    described = [one for one in series if text in one.images[0].description.lower()]
    fitting = numbered if wanted.isdecimal() else numbered or described  # 2 is not that of "T2"
    if len(fitting) != 1:
        count = "no series fits" if not fitting else f"{len(fitting)} series fit"
        problem = f"{count} --series {given}; there are: {_list(series)}."
        raise VolumeError(where, problem, _how_to_choose(fitting or series))
    if fitting[0].problem:
        raise VolumeError(where, f"series {fitting[0]} cannot be used: {fitting[0].problem}.")
    return fitting[0]


def _list(series: Sequence[Series]) -> str:
    return "; ".join(str(one) for one in series)


def find_weighting(image: DicomImage) -> Weighting:
    """Contrast by the words of the description, else by echo, repetition and inversion time."""
    words = _words(image)
    types = {part.replace("_", " ") for part in image.image_type}
    if _NEVER_WORDS.search(words) or types & _NEVER_TYPES or image.echo_planar:
        return "other"
    if _T1_WORDS.search(words):
        return "T1"
    if _OTHER_WORDS.search(words):
        return "other"
    if _T1_SEQUENCES.search(words):
        return "T1"
    echo, repetition, inversion = image.echo_ms, image.repetition_ms, image.inversion_ms
    if echo is None:
        return "unknown"
    low, high = T1_INVERSION_MS
    inverts = inversion is not None and low <= inversion <= high
    repeats = repetition is not None and repetition <= MAX_T1_REPETITION_MS
    if echo <= MAX_T1_ECHO_MS and (inverts or repeats):
        return "T1"
    return "other" if echo >= MIN_T2_ECHO_MS else "unknown"


def _words(image: DicomImage) -> str:
    return image.description.lower().replace("_", " ").replace("-", " ")


def find_problem(images: Sequence[DicomImage]) -> str:
    """Why images are not one whole MR volume, as a clause; empty if they are."""
    first = images[0]
    known = {*PLAIN_SYNTAXES, *PACKED_SYNTAXES}
    syntaxes = sorted({image.transfer_syntax for image in images} - known)
    if syntaxes:
        from pydicom.uid import UID

        name = UID(syntaxes[0]).name
        return f"its pixels are of a kind that cannot be decoded ({name}); export it uncompressed"
    if first.modality != "MR":
        return f"it is {first.modality}, not MR"
    if any(len(image.orientation) != 6 or not image.positions_mm for image in images):
        return "its images have no place in the patient (a screenshot or derived picture)"
    if any(len(image.pixel_mm) != 2 for image in images):
        return "its images do not tell the size of a pixel (PixelSpacing)"
    if encoding := next(filter(None, (image.encoding_problem for image in images)), ""):
        return f"{encoding}; export it again as plain single-frame images"
    return (
        _find_damage(images)
        or _find_plane_problem(images)
        or _find_step_problem(_positions(images), first.orientation)
    )


def _find_damage(images: Sequence[DicomImage]) -> str:
    """Say which slice is damaged, by its place along the stack."""
    normal = np.cross(images[0].orientation[:3], images[0].orientation[3:])
    ordered = sorted(images, key=lambda image: float(normal @ image.positions_mm[0]))
    for place, image in enumerate(ordered, start=1):
        if image.damage:
            return f"slice {place} of {len(ordered)} is damaged: {image.damage}"
    return ""


def _find_plane_problem(images: Sequence[DicomImage]) -> str:
    orientations = _count_orientations(images)
    slices = sum(len(image.positions_mm) for image in images)
    words = images[0].description.lower().replace("_", " ")
    named = _LOCALISER_WORDS.search(words) or "LOCALIZER" in images[0].image_type
    if named or (orientations > 1 and slices <= MAX_LOCALISER_SLICES):
        return f"it is a localiser ({slices} slices in {orientations} directions)"
    planes = {(image.matrix, tuple(round(size, 4) for size in image.pixel_mm)) for image in images}
    if orientations > 1 or len(planes) > 1:
        return f"it mixes geometries ({orientations} directions, {len(planes)} pixel grids)"
    if slices < MIN_SLICES:
        return f"it has {slices} slices, at least {MIN_SLICES} are needed"
    return ""


def _count_orientations(images: Sequence[DicomImage]) -> int:
    distinct: list[DoubleArray] = []
    for image in images:
        cosines = np.array(image.orientation)
        if all(np.abs(cosines - other).max() > ORIENTATION_TOLERANCE for other in distinct):
            distinct.append(cosines)
    return len(distinct)


def _positions(images: Sequence[DicomImage]) -> DoubleArray:
    return np.array([place for image in images for place in image.positions_mm], dtype=np.float64)


def _find_step_problem(positions: DoubleArray, orientation: Sequence[float]) -> str:
    """Gaps, repeats and slants in a stack of slices (N, 3), by distance along its normal."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    along = np.sort(positions @ normal)
    steps = np.diff(along)
    repeats = int(np.count_nonzero(steps < SAME_PLACE_MM))
    if repeats:
        return f"{repeats} slices lie where another one does (several echoes or time points)"
    step = float(np.median(steps))
    wide = steps > 1.5 * step
    if wide.any():
        missing = int(np.round(steps[wide] / step - 1).sum())
        after = int(np.flatnonzero(wide)[0]) + 1
        gap = f"{steps[wide][0]:.2f} mm instead of {step:.2f} mm"
        verb = "slice is" if missing == 1 else "slices are"
        return f"{missing} {verb} missing after slice {after} of {len(along)} ({gap})"
    uneven = np.abs(along - np.linspace(along[0], along[-1], len(along))).max()
    is_rounded = uneven <= ROUNDING_MM * np.abs(normal).sum()
    if np.abs(steps - step).max() > STEP_TOLERANCE * step and not is_rounded:
        return f"its slices are {steps.min():.2f} to {steps.max():.2f} mm apart: mixed geometry"
    in_plane = positions @ np.stack([row, column], axis=1)
    if np.ptp(in_plane, axis=0).max() > STEP_TOLERANCE * step * len(along):
        return "its slices are stacked aslant (tilted gantry)"
    return ""
