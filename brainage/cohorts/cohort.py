"""Read cohort tables (CSV, TSV, BIDS): subjects, sessions, ages and paths of scans."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainage.cohorts.bids import read_bids
from brainage.cohorts.cells import missing_path
from brainage.cohorts.columns import (
    STANDARD_COLUMNS,
    find_columns,
    infer_types,
    missing_column,
    resolve_names,
)
from brainage.cohorts.filters import kept_codes, select_rows, unknown_texts
from brainage.cohorts.standard import names_age, standardise
from brainage.cohorts.table_files import RawTable, read_table
from brainage.errors import CohortError, ShapeError
from brainage.types import BoolArray, LedgerEntry

MAX_LISTED = 20
# Column and value by which a phantom says what it is.
SOURCE, SYNTHETIC = "source", "synthetic"


@dataclass(frozen=True, eq=False)
class Cohort:
    """Scans that can be used, one a row.

    Attributes
    ----------
    table : pandas.DataFrame (N, columns)
        `scan_id` (unique), `subject_id`, `session_id`, `age_years` (float64, NaN where unknown),
        `sex` (F, M or empty), `site`, `path` (absolute), then the source's other columns.
    source : str
        File or folder that it was read from.

    Raises
    ------
    CohortError
        If a standard column is missing or a scan id comes twice.
    """

    table: pd.DataFrame
    source: str

    def __post_init__(self) -> None:
        missing = [name for name in STANDARD_COLUMNS if name not in self.table]
        if missing:
            raise CohortError(self.source, f"the cohort lacks columns {', '.join(missing)}.")
        if self.table["scan_id"].duplicated().any():
            twice = self.table.loc[self.table["scan_id"].duplicated(), "scan_id"].iloc[0]
            raise CohortError(self.source, f"scan id {twice!r} comes twice.", "Make ids unique.")

    def __len__(self) -> int:
        """Count the scans."""
        return len(self.table)

    @property
    def synthetic(self) -> bool:
        """Whether phantoms are among the scans, as the column `source` of their table says."""
        return SOURCE in self.table and bool((self.table[SOURCE] == SYNTHETIC).any())

    def select(self, rows: Sequence[int] | Sequence[bool] | NDArray[np.generic]) -> "Cohort":
        """Cohort of some rows.

        Parameters
        ----------
        rows : sequence of bool (N,) or of int
            Mask, or positions in the table.

        Raises
        ------
        ShapeError
            If a mask has another length than the cohort.
        """
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise ShapeError("select", f"a mask of {len(self)} scans has shape {chosen.shape}.")
            chosen = np.flatnonzero(chosen)
        picked = self.table.iloc[chosen.astype(np.intp)].reset_index(drop=True)
        return Cohort(picked, self.source)

    def content_hash(self) -> str:
        """SHA-256 over scan ids and ages, whatever the order of rows: names a cohort, not a person.

        One hash over everything, so no id and no age can be looked up in it.
        """
        pairs = zip(self.table["scan_id"], self.table["age_years"], strict=True)
        lines = sorted(f"{scan_id}\t{float(age):.6g}\n" for scan_id, age in pairs)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class CohortReading:
    """A cohort and what was left out of it: `rows_in` = len(cohort) + len(rejected).

    `notes` are sentences on what was decided or stays unknown, such as codes of the sex. `added` is
    how many of the last rows other cohorts added (`join_readings`).
    """

    cohort: Cohort
    rejected: list[LedgerEntry]
    rows_in: int
    notes: tuple[str, ...] = ()
    added: int = 0


def read_cohort(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    skip_bad: bool = False,
    require_age: bool = True,
) -> CohortReading:
    """Read a CSV/TSV table or a BIDS folder and check every row.

    Parameters
    ----------
    source : str or Path
        Table, whose relative paths start at its folder, or BIDS folder.
    columns : mapping of str to str, optional
        Our name to their column, where the usual names do not find it. Ours may be short (id,
        subject, session, age, sex, site, path) or full.
    where : str, optional
        Filter on the original columns and our standard names (see `select_rows`); of a name
        that is both, the original column counts. Rows that it removes are not looked at: they
        are neither bad nor part of `rows_in`.
    skip_bad : bool
        Leave bad rows out and list them, instead of raising.
    require_age : bool
        A row without age is bad.

    Returns
    -------
    CohortReading
        `rejected` has stage "cohort" and verdict "failed"; further T1w files of a BIDS session
        are in it too, with verdict "surplus": they are not bad.

    Raises
    ------
    CohortError
        Naming every bad row at once (without `skip_bad`), or if the source, a column or the
        filter is wrong, or no row is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> import brainage
    >>> folder = tempfile.TemporaryDirectory()
    >>> table = Path(folder.name, "cohort.csv")
    >>> rows = {"id": ["a", "b"], "age": [34, 61], "sex": ["F", "M"], "path": "cohort.csv"}
    >>> pd.DataFrame(rows).to_csv(table, index=False)
    >>> reading = brainage.read_cohort(table, where="age > 40")
    >>> reading.cohort.table[["scan_id", "age_years", "sex"]]
      scan_id  age_years sex
    0       b       61.0   M
    >>> folder.cleanup()
    """
    reading = load_cohort(
        source, columns=columns, where=where, skip_bad=skip_bad, require_age=require_age
    )
    for note in reading.notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return reading


def load_cohort(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    skip_bad: bool = False,
    require_age: bool = True,
) -> CohortReading:
    """Read as `read_cohort` does, but leave it to the caller to say the notes."""
    raw, roles = _read_source(Path(source), columns or {}, require_age)
    standard, age_problems, notes = standardise(raw, roles, names_age(columns))
    originals = infer_types(raw.frame, raw.decimal_comma)
    if "age_years" in roles:
        # So that a filter on ages works where some are written as 89+ or n/a.
        originals[roles["age_years"]] = standard["age_years"]
    kept = np.ones(len(standard), dtype=bool)
    if where is not None:
        view = _filter_view(standard, originals)
        kept = select_rows(view, where)
        notes += filter(None, [unknown_texts(view, where), kept_codes(view, where, kept)])
    if not kept.any():
        problem = f"the filter {where!r} keeps none of {len(kept)} rows."
        raise CohortError("--where", problem, "Check its columns and values.")
    problems = _find_problems(raw, standard, age_problems, kept, require_age)
    good = kept & (problems == "")
    bad = kept & (problems != "") & ~raw.notes["surplus"].to_numpy()
    if bad.any() and not (skip_bad and good.any()):
        raise _bad_rows(raw, standard, problems, bad, int(kept.sum()))
    others = originals[[name for name in originals.columns if name not in roles.values()]]
    others = others.drop(columns=[name for name in STANDARD_COLUMNS if name in others])
    table = pd.concat([standard, others], axis=1)[good].reset_index(drop=True)
    rejected = _list_rejected(raw, standard, problems, kept)
    return CohortReading(Cohort(table, raw.source), rejected, int(kept.sum()), tuple(notes))


def _read_source(
    source: Path, columns: Mapping[str, str], require_age: bool
) -> tuple[RawTable, dict[str, str]]:
    if not source.exists():
        raise CohortError(str(source), "no such file or folder.", "Check --cohort.")
    is_folder = source.is_dir()
    raw = read_bids(source, names_age(columns)) if is_folder else read_table(source)
    available = list(raw.frame.columns)
    given = resolve_names(columns, available)
    fixed = sorted(set(given) & set(raw.roles))
    if fixed:
        problem = f"{', '.join(fixed)} of a BIDS folder come from its file names."
        raise CohortError("--column", problem, "Only age, sex and site can be named.")
    roles = find_columns(available, {**given, **raw.roles}, raw.people or raw.source)
    if require_age and not raw.people:
        problem = "has no participants.tsv, so that no age is known."
        raise CohortError(raw.source, problem, "Write one: participant_id and age.")
    if require_age and "age_years" not in roles:
        raise missing_column("age_years", available, raw.people)
    return raw, roles


def _filter_view(standard: pd.DataFrame, originals: pd.DataFrame) -> pd.DataFrame:
    ours = [name for name in standard.columns if name not in originals]
    return pd.concat([originals, standard[ours]], axis=1)


def _find_problems(
    raw: RawTable,
    standard: pd.DataFrame,
    age_problems: Sequence[str],
    kept: BoolArray,
    require_age: bool,
) -> NDArray[np.object_]:
    """Return what is wrong with each kept row, as one clause; empty where nothing is."""
    given = list(raw.notes["problem"])
    counted = kept & (raw.notes["problem"] == "").to_numpy()
    duplicates = _find_duplicates(raw.frame, standard["scan_id"], counted)
    folder = raw.folder.absolute()
    no_file = {path: missing_path(path, folder) for path in set(standard.loc[counted, "path"])}
    rows = zip(
        standard["scan_id"],
        standard["subject_id"],
        standard["age_years"],
        standard["path"],
        duplicates,
        age_problems,
        strict=True,
    )
    problems = []
    for position, (scan_id, subject_id, age_years, path, duplicate, age_problem) in enumerate(rows):
        unknown_age = "has no age" if require_age and np.isnan(age_years) else ""
        clauses = [
            "" if scan_id else "has no scan id",
            "" if subject_id else "has no subject id",
            duplicate,
            age_problem or unknown_age,
            no_file.get(path, ""),
        ]
        found = ", ".join(clause for clause in clauses if clause)
        problems.append(found if counted[position] else given[position])
    return np.array(problems, dtype=object)


def _find_duplicates(frame: pd.DataFrame, scan_ids: pd.Series, counted: BoolArray) -> list[str]:
    """Clause for each row whose id comes twice.

    Which of two rows is right cannot be known, so both are bad; but of rows that are the same
    in every cell the first one is good.
    """
    ids = scan_ids[counted & (scan_ids != "").to_numpy()]
    twice = ids[ids.duplicated(keep=False)]
    repeated = frame.loc[twice.index].duplicated()
    size = twice.groupby(twice).transform("size")
    is_same = (~repeated).groupby(twice).transform("sum") == 1
    clauses = pd.Series("", index=scan_ids.index)
    clauses[is_same.index[is_same & repeated]] = "repeats an earlier row"
    different = is_same.index[~is_same]
    clauses[different] = size[different].map(lambda count: f"scan id comes {count} times")
    return clauses.tolist()


def _bad_rows(
    raw: RawTable, standard: pd.DataFrame, problems: NDArray[np.object_], bad: BoolArray, total: int
) -> CohortError:
    count = int(bad.sum())
    first = f"{count} of {total} rows cannot be used. Mend them, or leave them out with --skip-bad:"
    if count == total:
        first = f"none of {total} rows can be used. Mend them:"
    labels, scan_ids = raw.notes["label"].tolist(), standard["scan_id"].tolist()
    lines = [
        f"  {labels[row]} ({scan_ids[row] or 'no id'}): {problems[row]}"
        for row in np.flatnonzero(bad)[:MAX_LISTED].tolist()
    ]
    if count > MAX_LISTED:
        lines.append(f"  and {count - MAX_LISTED} more")
    made = standard["scan_id"] == standard["subject_id"]
    if (made & bad & standard["scan_id"].duplicated(keep=False)).any():
        hint = "Several scans of a person need a column of the session (session, visit, timepoint)"
        lines.append(f"{hint} or of the scan (scan_id).")
    return CohortError(raw.source, "\n".join([first, *lines]))


def _list_rejected(
    raw: RawTable, standard: pd.DataFrame, problems: NDArray[np.object_], kept: BoolArray
) -> list[LedgerEntry]:
    """Ledger entries of rows left out; an id that comes twice gets its row number."""
    counts = standard.loc[kept, "scan_id"].value_counts()
    scan_ids, numbers = standard["scan_id"].tolist(), raw.notes["number"].tolist()
    surplus, entries = raw.notes["surplus"].tolist(), []
    for row in np.flatnonzero(kept & (problems != "")).tolist():
        scan_id = scan_ids[row]
        if not scan_id or counts[scan_id] > 1:
            scan_id = f"{scan_id}#row{numbers[row]}"
        verdict: Literal["surplus", "failed"] = "surplus" if surplus[row] else "failed"
        entries.append(LedgerEntry(scan_id, "cohort", verdict, str(problems[row])))
    return entries
