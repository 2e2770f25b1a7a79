"""Read the cells of somebody's table: missing values, numbers, ages, sexes and paths."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from brainage.files import explain_link

_MISSING = {"", "n/a", "na", "nan", "none", "null"}
OLDEST_YEARS = 120.0
ADULT_YEARS = 18.0

_NUMBER = r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?"
# 89+ and >89 hide the ages above; 045Y and 018M are DICOM's way to write years and months.
_AGE = re.compile(rf"(?:>=?\s*)?(?P<number>{_NUMBER})\+?\s*(?P<unit>[^\W\d]*)\.?\s*\+?")
# 12,345 days, or 12.345 in other countries, may be thousands; points before three digits are
# mostly decimal marks in months and weeks.
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?P<mark>[.,])[0-9]{3}")
_DICOM_AGE = re.compile(r"[0-9]{3}[DWM]")
_UNITS_PER_YEAR = {
    1.0: ("", "y", "yr", "yrs", "year", "years", "yo"),
    12.0: ("month", "months", "mo", "mos", "mth", "mths"),
    365.25 / 7: ("week", "weeks", "wk", "wks"),
    365.25: ("day", "days"),
}
_PER_YEAR = {unit: count for count, units in _UNITS_PER_YEAR.items() for unit in units}
_DICOM_UNITS = {"D": "days", "W": "weeks", "M": "months"}

_WORDS = {
    "M": ("m", "male", "man", "boy"),
    "F": ("f", "female", "w", "woman", "girl"),
}
_SEX = {word: sex for sex, words in _WORDS.items() for word in words}
_LEGEND = re.compile(r"([0-9])\s*[-=:]\s*([A-Za-z]+)")
_WORDS_FIRST = re.compile(r"([A-Za-z]+)\s*[-=:]\s*([0-9])")
# age_at_12_months and age_month12 name a visit, and so does t1; AgeMonths_v2 has a unit.
_VISIT = re.compile(
    r"(?<![A-Za-z])\d+[\W_]*[A-Za-z]+|(?i:month|mo|week|wk|day)[\W_]*\d+|[A-Za-z]*[^\W\d_sS]\d+"
)
_GLUED_UNIT = re.compile(r"age.*?(months|weeks|days)")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def is_missing(cell: str) -> bool:
    """Tell whether a cell stands for no value: empty, n/a, NA, NaN, none, null."""
    return cell.strip().lower() in _MISSING


def read_name(cell: str) -> str:
    """Return an id or a site in one form of its letters (NFC): e + ´ is é, as it looks."""
    return unicodedata.normalize("NFC", cell)


def note_spellings(names: Iterable[str], what: str) -> str:
    """Say which names differ in upper and lower case or in the width of letters alone, or ''.

    Examples
    --------
    >>> note_spellings(["sub-01", "SUB-01", "sub-02"], "person")
    "'SUB-01' and 'sub-01' count as another person each: write one id in one way."
    """
    spellings: dict[str, set[str]] = {}
    for name in names:
        spellings.setdefault(unicodedata.normalize("NFKC", name).casefold(), set()).add(name)
    several = [sorted(forms) for forms in spellings.values() if len(forms) > 1]
    if not several:
        return ""
    more = f" (and {len(several) - 1} more such)" if len(several) > 1 else ""
    first = " and ".join(map(repr, several[0]))
    return f"{first}{more} count as another {what} each: write one id in one way."


def parse_number(cell: str) -> float:
    """Read a number, whose decimal mark may be a comma; NaN where the cell is missing.

    Raises
    ------
    ValueError
        If the cell is no number.

    Examples
    --------
    >>> parse_number("4,75e+01")
    47.5
    """
    if is_missing(cell):
        return math.nan
    text = cell.strip()
    if re.fullmatch(_NUMBER, text) is None:
        raise ValueError(f"{cell!r} is not a number")
    return float(text.replace(",", "."))


class TooOldError(ValueError):
    """An age above `OLDEST_YEARS`: a slip, or another unit."""


def parse_age(cell: str) -> float:
    """Read an age in years; NaN where the cell is missing.

    Decimal commas count as points; top-coded ages such as ``89+`` (BIDS) or ``>89`` become 89.
    A unit behind the number is heeded: ``47y``, ``60 months``, DICOM's ``045Y`` and ``018M``
    (PS3.5, section 6.2).

    Raises
    ------
    ValueError
        If the cell is no number, has an unknown unit, is not between 0 and 120 years, or could
        be thousands of days.

    Examples
    --------
    >>> parse_age("60 months")
    5.0
    """
    if is_missing(cell):
        return math.nan
    text = cell.strip()
    if _DICOM_AGE.fullmatch(text):
        text = f"{text[:3]} {_DICOM_UNITS[text[3]]}"
    match = _AGE.fullmatch(text)
    if match is None:
        raise ValueError(f"age {cell!r} is not a number")
    unit = match["unit"].lower()
    if unit not in _PER_YEAR:
        raise ValueError(f"age {cell!r} is not a number of years, months, weeks or days")
    age_years = float(match["number"].replace(",", ".")) / _PER_YEAR[unit]
    grouped = _THOUSANDS.fullmatch(match["number"])
    is_open = grouped and (grouped["mark"] == "," or unit.startswith("day"))
    if is_open and 1000 * age_years <= OLDEST_YEARS:
        raise ValueError(f"age {cell!r} could be thousands; write the number without a mark")
    if not 0.0 <= age_years <= OLDEST_YEARS:
        kind = TooOldError if age_years > OLDEST_YEARS else ValueError
        raise kind(f"age {cell} is not between 0 and {OLDEST_YEARS:g} years")
    return age_years


def is_other_unit(unit: str) -> bool:
    """Tell whether a unit of age, as a dictionary or a name gives it, is another than years."""
    return _PER_YEAR.get(unit.strip().lower()) != 1.0


def add_unit(cell: str, unit: str) -> str:
    """Write a unit behind an age that has none, so that `parse_age` heeds it."""
    if is_missing(cell) or not is_other_unit(unit):
        return cell
    match = _AGE.fullmatch(cell.strip())
    return f"{cell.strip()} {unit}" if match is None or not match["unit"] else cell


def unit_of_name(name: str) -> str:
    """Return the unit that a column's name tells, such as months of ``AgeMonths``; or ''."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", _VISIT.sub(" ", name))
    plain = [_GLUED_UNIT.sub(r"\1", word.lower()) for word in words]
    return next((word for word in plain if _PER_YEAR.get(word, 1.0) != 1.0), "")


def find_missing_codes(ages_years: Sequence[float]) -> bool:
    """Tell whether an age of 0 must be a code for a missing one: all others are adults."""
    ages = np.asarray(ages_years, dtype=np.float64)
    others = ages[np.isfinite(ages) & (ages != 0)]
    return bool((ages == 0).any() and len(others) and others.min() >= ADULT_YEARS)


def parse_sex(cell: str) -> str:
    """Read a sex word as F, M or empty; numbers need `parse_sexes`."""
    return _SEX.get(cell.strip().lower(), "")


def read_legend(name: str) -> dict[str, str]:
    """Return the codes that a text explains: ``SEX_ID (1=m, 2=f)`` or ``sex (M=1, F=2)``."""
    turned = [(code, word) for word, code in _WORDS_FIRST.findall(name)]
    for pairs in (_LEGEND.findall(name), turned):
        found = {code: parse_sex(word) for code, word in pairs}
        if {"F", "M"} <= set(found.values()):
            return found
    return {}


def parse_sexes(
    cells: Sequence[str], name: str, legend: Mapping[str, str] | None = None
) -> tuple[list[str], str]:
    """Read a column of sexes as F, M or empty.

    Numbers are read where the column's name or the data set's dictionary explains them, or by
    ISO/IEC 5218 (1 male, 2 female, 0 and 9 unknown) where a 2 is among them and the name says
    nothing of both. Anything else, such as 0 and 1, stays unknown: either could be the women.

    Parameters
    ----------
    cells : sequence of str (N,)
        Missing cells are empty.
    name : str
        The column's name.
    legend : mapping of str to str, optional
        Code to a word for the sex, from a data dictionary.

    Returns
    -------
    list of str (N,)
    str
        What could not be read, or empty.
    """
    words = legend or read_legend(name) or dict(_LEGEND.findall(name))
    told = {code: parse_sex(word) for code, word in words.items()}
    codes = [re.sub(r"\.0+$", "", cell.strip()) for cell in cells]
    numbers = {code for code in codes if code.isdecimal()}
    letters = {code.lower() for code in codes if code.isalpha()}
    if not told and "m" in letters and letters & {"h", "v"} and not letters & set(_WORDS["F"]):
        told = {"m": "", "M": ""}  # of Spanish hombres or varones and mujeres, M are the women
    if not told:
        is_explained = {"1", "2"} <= set(name)  # in a way that is not understood
        is_iso = "2" in numbers and numbers <= {"0", "1", "2", "9"} and not is_explained
        told = {"1": "M", "2": "F", "0": "", "9": ""} if is_iso else {}
    sexes = [told.get(code, parse_sex(code)) for code in codes]
    unread = {code for code, sex in zip(codes, sexes, strict=True) if code and not sex}
    if any(told.values()):
        unread -= numbers & set(told)  # codes that say "unknown" themselves
    strange = sorted(unread)
    if not strange:
        return sexes, ""
    listed = ", ".join(strange[:5])
    note = f"column {name!r} holds {listed}: what that means is not told; "
    note += "the sex stays unknown there. Write F and M"
    if numbers & set(strange):
        note += f", or say it in the header, such as {'sex (0=m, 1=f)'!r}"
    return sexes, f"{note}."


def find_path(cell: str, folder: Path) -> str:
    r"""Return the absolute path of a cell: ``~``, ``file://`` and backslashes are understood.

    Backslashes are read as slashes only where no file of that very name is there.
    """
    if not cell:
        return ""
    if cell.lower().startswith("file://"):
        cell = unquote(urlsplit(cell).path)
    elif cell.startswith("~"):
        try:
            cell = str(Path(cell).expanduser())
        except RuntimeError:
            return str(folder / cell)
    path = folder / cell
    if "\\" not in cell or _DRIVE.match(cell) or _exists(path):
        return str(path)
    return str(folder / cell.replace("\\", "/"))


def missing_path(path: str, folder: Path) -> str:
    """Return what is wrong with the path of a scan, or empty."""
    if not path:
        return "names no file"
    if _exists(Path(path)):
        return ""
    if (link := explain_link(Path(path))) is not None:
        return f"{path} {link[0]} {link[1].removesuffix('.')}"
    cell = path.removeprefix(f"{folder}/")
    if _DRIVE.match(cell):
        return f"no such file: {cell} is a path of a Windows machine; give it as seen from here"
    return f"no such file: {path}"


def _exists(path: Path) -> bool:
    try:
        # A scan may be a folder of DICOM files.
        return path.exists()
    except OSError:
        # A name that the file system refuses (too long) does not exist.
        return False
