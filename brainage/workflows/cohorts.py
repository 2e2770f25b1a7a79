"""Read and prepare the scans or the cohort that a command or a Python caller names."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from brainage.config import PreprocessingConfig
from brainage.errors import CohortError, ConfigError
from brainage.types import HalfArray, LedgerEntry
from brainage.workflows.console import default_cache, scan_progress, warn
from brainage.workflows.masks import ScanOptions

if TYPE_CHECKING:
    import pandas as pd

    from brainage.cohorts.cohort import Cohort, CohortReading
    from brainage.prepared.arrays import Preparation
    from brainage.training.run import PreparedCohort

DEMO = "demo"
DEMO_SUBJECTS = 120


@dataclass(frozen=True)
class CohortOptions:
    """Say where a cohort lies and how it is read.

    Filter, columns and masks are those of `source`; the cohorts of `more` are taken whole. A
    cohort that is `given` has been read already.
    """

    source: str
    where: str | None = None
    columns: dict[str, str] | None = None
    skip_bad: bool = False
    cache: Path | None = None
    scans: ScanOptions = field(default_factory=ScanOptions)
    more: tuple[str, ...] = ()
    given: "Cohort | None" = None

    @property
    def cache_dir(self) -> Path:
        """Folder of prepared arrays."""
        return self.cache or default_cache()


CohortInput: TypeAlias = Union[str, Path, "Cohort", "CohortReading", CohortOptions]
ScansInput: TypeAlias = CohortInput | Sequence[str | Path]


def as_options(cohort: CohortInput, cache: Path | None = None) -> CohortOptions:
    """Describe a cohort by where it lies, or as one that has been read.

    Parameters
    ----------
    cohort : str, pathlib.Path, Cohort, CohortReading or CohortOptions
        Table or BIDS folder, what `brainage.read_cohort` returned, or options as they are.
    cache : pathlib.Path, optional
        Folder of prepared scans; absent: the options', then the user's.
    """
    from brainage.cohorts.cohort import CohortReading

    if isinstance(cohort, CohortOptions):
        return cohort if cache is None else replace(cohort, cache=cache)
    if isinstance(cohort, str | Path):
        return CohortOptions(str(cohort), cache=cache)
    given = cohort.cohort if isinstance(cohort, CohortReading) else cohort
    return CohortOptions(given.source, cache=cache, given=given)


def read_scans(scans: ScansInput) -> tuple["pd.DataFrame", list[LedgerEntry], Path]:
    """Read the table of scans to predict or explain; bad rows are entries, not errors.

    A path, or each of several, is a scan.

    Returns
    -------
    pandas.DataFrame
        `scan_id`, `path`, `age_years` (NaN where unknown) and what else is known.
    list of LedgerEntry
        Rows that were left out.
    pathlib.Path
        Folder where the names of masks start.
    """
    from brainage.inference.predict import scans_table

    if isinstance(scans, str | Path):
        scans = [scans]
    if isinstance(scans, Sequence):
        table, entries = scans_table([str(path) for path in scans])
        return table, entries, Path()
    # A prediction needs no age, and one bad row must not keep the others from theirs.
    options = replace(as_options(scans), skip_bad=True)
    reading = read_options(options, require_age=False)
    return reading.cohort.table, reading.rejected, table_folder(options.source)


def read_options(options: CohortOptions, *, require_age: bool = True) -> "CohortReading":
    """Read the table or folder and those beside it, or make the demo's phantoms in the cache."""
    from brainage.cohorts.cohort import load_cohort
    from brainage.cohorts.join import join_readings

    if options.given is not None:
        return _check_given(options.given, require_age)
    source = options.source
    if source == DEMO:
        source = str(make_phantoms(options.cache_dir / "phantoms"))
    first = load_cohort(
        source,
        columns=options.columns,
        where=options.where,
        skip_bad=options.skip_bad,
        require_age=require_age,
    )
    if not options.more:
        _say_notes(first)
        return first
    others = [
        load_cohort(name, skip_bad=options.skip_bad, require_age=require_age)
        for name in options.more
    ]
    joined = join_readings([first, *others])
    for reading in (first, *others, joined):
        _say_notes(reading)
    return joined


def _say_notes(reading: "CohortReading") -> None:
    for note in reading.notes:
        warn(note)


def _check_given(cohort: "Cohort", require_age: bool) -> "CohortReading":
    from brainage.cohorts.cohort import CohortReading

    missing = int(cohort.table["age_years"].isna().sum())
    if require_age and missing:
        problem = f"{missing} of {len(cohort)} scans have no age."
        raise CohortError(cohort.source, problem, "Leave them out.")
    return CohortReading(cohort, [], len(cohort))


def table_folder(source: str) -> Path:
    """Folder where paths of a cohort start."""
    return Path(source) if Path(source).is_dir() else Path(source).parent


def make_phantoms(folder: Path, subjects: int = DEMO_SUBJECTS, seed: int = 0) -> Path:
    """Write the phantom cohort once; returns its table."""
    from brainage.cohorts.phantom import write_phantom_cohort

    target = folder / f"{subjects}-{seed}"
    table = target / "cohort.csv"
    return table if table.exists() else write_phantom_cohort(target, subjects, seed)


def prepare_options(
    options: CohortOptions, settings: PreprocessingConfig, stranger_copies: int = 0
) -> tuple["PreparedCohort", list[LedgerEntry]]:
    """Read and prepare a cohort with ages.

    Parameters
    ----------
    stranger_copies : int
        As in `AugmentationConfig`.

    Returns
    -------
    PreparedCohort
        The scans that can be used.
    list of LedgerEntry
        One entry for every row that came in.

    Raises
    ------
    CohortError
        If a scan cannot be prepared or is a duplicate and `skip_bad` is off, or none is left.
    ConfigError
        If copies are wanted of scans with masks of their own.
    """
    from brainage.cohorts.duplicates import find_duplicates, refuse_duplicates
    from brainage.prepared.arrays import prepare_cohort
    from brainage.training.run import PreparedCohort

    reading = read_options(options)
    table = reading.cohort.table
    folder = table_folder(options.source if options.more else reading.cohort.source)
    how = options.scans.build(table.iloc[: len(table) - reading.added], folder)
    how = replace(how, masks=(*how.masks, *[""] * reading.added))
    with scan_progress("preparing scans") as progress:
        prepared = prepare_cohort(
            list(table["path"]),
            list(table["scan_id"]),
            settings,
            options.cache_dir,
            how=how,
            on_progress=progress,
        )
    entries = [*reading.rejected, *prepared.entries]
    failed = [entry for entry in prepared.entries if entry.verdict == "failed"]
    if failed and (not options.skip_bad or not len(prepared.kept)):
        raise _unusable(options.source, failed, len(table))
    cohort = reading.cohort.select(prepared.kept)
    unique, duplicates = find_duplicates(prepared.arrays, cohort.table)
    if duplicates and (not options.skip_bad or not unique.any()):
        refuse_duplicates(duplicates, options.source)
    dropped = {entry.scan_id: entry for entry in duplicates}
    entries = [dropped.get(entry.scan_id, entry) for entry in entries]
    arrays = prepared.arrays if unique.all() else prepared.arrays[unique]
    cohort = cohort.select(unique)
    copies = _prepare_copies(cohort, settings, options, how, stranger_copies)
    return PreparedCohort(cohort, arrays, cohort.synthetic, copies), entries


def _prepare_copies(
    cohort: "Cohort",
    settings: PreprocessingConfig,
    options: CohortOptions,
    how: "Preparation",
    count: int,
) -> HalfArray | None:
    from brainage.prepared.strangers import prepare_strangers
    from brainage.sandbox.engines import Engine

    if not count:
        return None
    if any(how.masks) or how.command:
        problem = f"is {count}, which strips scans by masks of its own."
        remedy = "Set it to 0, or leave out --mask and --brain-extraction-command."
        raise ConfigError("augmentation.stranger_copies", problem, remedy)
    with scan_progress("preparing copies") as progress:
        copies, bad = prepare_strangers(
            list(cohort.table["path"]),
            list(cohort.table["scan_id"]),
            settings,
            options.cache_dir,
            count,
            how.engine or Engine(),
            progress,
        )
    if bad:
        warn(f"{bad} of {count * len(cohort)} copies cannot be used: their scans stand for them.")
    return copies


def _unusable(source: str, failed: list[LedgerEntry], total: int) -> CohortError:
    listed = [f"  {entry.scan_id}: {entry.reason}" for entry in failed[:20]]
    more = [f"  and {len(failed) - 20} more"] if len(failed) > 20 else []
    remedy = "Mend them, or leave them out with --skip-bad."
    problem = f"{len(failed)} of {total} scans cannot be used. {remedy}"
    return CohortError(source, "\n".join([problem, *listed, *more]))
