"""Check what a command line names, before anything is loaded that takes time."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from brainage.cohorts.sample import SAMPLE_WORDS, is_sample, place_sample
from brainage.errors import BundleError, CohortError, ConfigError, VolumeError, suggest
from brainage.files import explain_link
from brainage.workflows.console import warn

DEMO = "demo"
_PACKED_SUFFIXES = (".nii.gz", ".dcm.gz", ".img.gz", ".hdr.gz")
SCAN_SUFFIXES = (*_PACKED_SUFFIXES, ".nii", ".mgz", ".mgh", ".dcm", ".ima", ".zip", ".img", ".hdr")
TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".xls", ".xlsx")


def is_scan(name: str) -> bool:
    """Tell whether a path looks like a scan by its suffix."""
    return name.lower().endswith(SCAN_SUFFIXES)


def check_cohort(source: str) -> None:
    """Refuse a cohort that is not there, and a scan in its place.

    Raises
    ------
    CohortError
        Saying what was probably meant.
    """
    if source == DEMO:
        return
    if is_scan(source):
        remedy = f"Did you mean `brainage predict {source}`?"
        raise CohortError(source, "is a scan; --cohort takes a table or a BIDS folder.", remedy)
    if not Path(source).exists():
        raise CohortError(source, "is not there.", _nearest_file(Path(source)))


def check_scans(scans: Sequence[str]) -> None:
    """Refuse scans of which none is there, and a table or data set in their place.

    One that is missing among others gets its line in the ledger instead.

    Raises
    ------
    ConfigError
        If a table or a BIDS folder came.
    VolumeError
        If no scan is there.
    """
    for name in scans:
        if name.lower().endswith(TABLE_SUFFIXES):
            raise ConfigError(name, "is a table, not a scan.", f"Did you mean --cohort {name}?")
        if (Path(name) / "dataset_description.json").is_file():
            problem = "is a BIDS data set, not a scan."
            raise ConfigError(name, problem, f"Did you mean --cohort {name}?")
    if scans and not any(is_sample(name) or Path(name).exists() for name in scans):
        first = Path(scans[0])
        told = explain_link(first) or ("is not there.", _nearest_file(first))
        raise VolumeError(scans[0], *told)


def place_named(name: str, cache: Path | None) -> str:
    """Return the path of a scan; the built-in sample is written first, and said to be one."""
    if not is_sample(name):
        return name
    warn(f"{SAMPLE_WORDS}.")
    return str(place_sample(cache))


def check_table(path: Path) -> None:
    """Refuse a table that is not there.

    Raises
    ------
    CohortError
        Naming it, and a file of a similar name.
    """
    if not path.exists():
        raise CohortError(str(path), "is not there.", _nearest_file(path))


def check_ages(ages: Path | None, cohort: str | None) -> None:
    """Refuse a table of ages that is not there, or that comes beside a cohort.

    Raises
    ------
    ConfigError, CohortError
    """
    if ages is None:
        return
    if cohort is not None:
        raise ConfigError("--ages", "has no meaning beside --cohort, which has ages itself.")
    check_table(ages)


def check_not_read(output: Path, sources: Iterable[str | Path]) -> None:
    """Refuse to write over what is read: a scan or a table would be lost.

    Raises
    ------
    ConfigError
        If the output is one of the sources.
    """
    target = output.resolve()
    if any(Path(source).resolve() == target for source in sources):
        problem = f"{output} is one of the files that are read, and would be lost."
        raise ConfigError("--output", problem, "Choose another name.")


def check_model(model: str | Path | None) -> None:
    """Refuse a folder that holds no model; None and names in a registry pass.

    Raises
    ------
    BundleError
        If it is no folder of a model.
    """
    if model is None or str(model).startswith("models:/"):
        return
    if not Path(model).is_dir():
        raise BundleError(str(model), "is not there.", _nearest_file(Path(model)))
    if not (Path(model) / "manifest.json").is_file():
        raise BundleError(str(model), "holds no model.", "Give a folder that `train` wrote.")


def check_device(name: str) -> None:
    """Refuse what is no name of a device.

    Raises
    ------
    ConfigError
        If it is none; whether the device is there is seen later.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ConfigError("--device", f"{name!r} is not available here.", "Use cpu, cuda or auto.")


def check_evaluated(predictions: Path | None, of_model: Mapping[str, object]) -> None:
    """Refuse an evaluation of nothing, and options of a model beside a table of predictions.

    Parameters
    ----------
    predictions : pathlib.Path, optional
        Table with ages and predictions.
    of_model : mapping of str to object
        Values of the options that have a meaning for a model alone, by name.

    Raises
    ------
    ConfigError
        Naming the options that are too many or missing.
    CohortError, BundleError
        If the table or the model is not there.
    """
    given = [f"--{name}" for name, value in of_model.items() if value]
    if predictions is not None and given:
        problem = f"{', '.join(given)} has no meaning beside --predictions."
        raise ConfigError("evaluate", problem, "The whole table is evaluated.")
    if predictions is None and not (of_model.get("model") and of_model.get("cohort")):
        raise ConfigError("evaluate", "give --predictions, or --model with --cohort.")
    if predictions is not None:
        check_table(predictions)
    else:
        check_model(str(of_model["model"]))


def parse_counts(option: str, text: str) -> list[int]:
    """Split a list of positive whole numbers at its commas.

    Raises
    ------
    ConfigError
        If it is none.

    Examples
    --------
    >>> parse_counts("--blocks", "4,8")
    [4, 8]
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ConfigError(option, f"{text!r} is no list of numbers.", "Give 4,8,12.")
    return numbers


def check_choices(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Split a list of names at its commas.

    Raises
    ------
    ConfigError
        If it is empty, or a name is unknown or comes twice.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        came = ", ".join(unknown) or text
        remedy = suggest(unknown[0] if unknown else "", known)
        raise ConfigError(option, f"cannot take {came!r}.", f"{remedy}Known: {', '.join(known)}.")
    return names


def _nearest_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return "Check the path."
    return suggest(path.name, names).strip() or "Check the path."
