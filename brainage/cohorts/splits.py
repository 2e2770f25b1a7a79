"""Who trains, who validates, who tests: split by subject, alike in age and site."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainage.cohorts.cohort import Cohort
from brainage.config import SplitConfig
from brainage.errors import CohortError
from brainage.files import sha256_bytes

AGE_BINS = 10

_Indices = NDArray[np.int64]
_Subjects = NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted positions in a cohort's table.

    Attributes
    ----------
    train, validation, test : numpy.ndarray of int64
        No subject has scans in two of them.
    """

    train: _Indices
    validation: _Indices
    test: _Indices


def make_split(cohort: Cohort, split: SplitConfig) -> Split:
    """Hold out a test and a validation part of the subjects.

    Subjects are ordered by age bin, site and age, and cut into as many runs as are held out; of
    every run one subject is drawn. So each part has the cohort's ages and sites, and the same
    scans in another order get the same parts.

    Raises
    ------
    CohortError
        If there are too few subjects, with the arithmetic and a number that would do.
    """
    ordered = _order_subjects(cohort)
    n_test, n_validation = _share(len(ordered), split.test_fraction), _n_validation(ordered, split)
    n_train = len(ordered) - n_test - n_validation
    if n_train < 1:
        arithmetic = (
            f"{len(ordered)} subjects - {n_test} for test ({split.test_fraction:g}) - "
            f"{n_validation} for validation ({split.validation_fraction:g}) "
            f"leave {max(n_train, 0)} to train."
        )
        remedy = "At least 3 subjects, test_fraction 0.2 and validation_fraction 0.12 work."
        raise CohortError(cohort.source, arithmetic, remedy)
    rng = np.random.default_rng(split.seed)
    test = _draw(ordered, n_test, rng)
    validation = _draw(ordered[~np.isin(ordered, test)], n_validation, rng)
    return _build_split(cohort, validation, test)


def make_folds(cohort: Cohort, folds: int, split: SplitConfig) -> list[Split]:
    """Draw folds for cross-validation: every subject is in the test part of exactly one.

    Each fold keeps `split.validation_fraction` of its other subjects for validation, as
    `hold_out_validation` does; `split.test_fraction` has no meaning here, a fold tests one
    `folds`-th. Drawn as in `make_split`, with the folds shuffled inside every run of `folds`
    subjects.

    Raises
    ------
    CohortError
        If there are too few subjects for so many folds, with a number that would do.
    """
    ordered = _order_subjects(cohort)
    _check_folds(cohort.source, len(ordered), folds, split)
    rng = np.random.default_rng(split.seed)
    runs = -(-len(ordered) // folds)
    fold = np.concatenate([rng.permutation(folds) for _ in range(runs)])[: len(ordered)]
    return [_leave_out(cohort, ordered[fold == number], split) for number in range(folds)]


def make_column_folds(cohort: Cohort, column: str, split: SplitConfig) -> list[Split]:
    """Take the folds of a column: each of its values, in sorted order, is tested once.

    Raises
    ------
    CohortError
        If there is no such column, a cell is blank, there are fewer than two values, text stands
        beside numbers, or a subject's scans are in two folds.
    """
    if column not in cohort.table:
        known = ", ".join(str(name) for name in cohort.table)
        raise CohortError(cohort.source, f"has no column {column!r}.", f"Columns: {known}.")
    labels, subjects = cohort.table[column], cohort.table["subject_id"]
    labels = labels.mask(labels.eq(""))  # as an unknown sex or site stands in the table
    found = labels.dropna().unique().tolist()
    if len({isinstance(name, str) for name in found}) > 1:  # of two cohorts: is '1' fold 1?
        problem = f"column {column!r} holds text and numbers."
        raise CohortError(cohort.source, problem, "Write the folds of all cohorts in one way.")
    names = sorted(found)
    if len(names) < 2 or labels.isna().any():
        problem = f"column {column!r} has {len(names)} folds and {int(labels.isna().sum())} blanks."
        raise CohortError(cohort.source, problem, "Give every scan one of at least two folds.")
    spread = labels.groupby(subjects).nunique()
    if (spread > 1).any():
        problem = f"scans of subject {spread.index[spread > 1][0]!r} are in several folds."
        raise CohortError(cohort.source, problem, "Split by subject.")
    return [
        _leave_out(cohort, subjects[labels == name].unique().astype(str), split) for name in names
    ]


def hold_out_validation(cohort: Cohort, split: SplitConfig) -> Split:
    """Hold out a validation part of the subjects, and no test part.

    Subjects are drawn as in `make_split`; equal subjects, ages and sites give equal parts,
    whatever else the cohort that they come from holds.

    Raises
    ------
    CohortError
        If there are fewer than 2 subjects.
    """
    return _leave_out(cohort, np.empty(0, dtype=np.str_), split)


def make_site_folds(cohort: Cohort, split: SplitConfig) -> list[Split]:
    """Leave one site out: each fold tests all scans of one site, in the sites' alphabetical order.

    People who were scanned at several sites train and validate no fold that tests them.

    Raises
    ------
    CohortError
        If there are fewer than two sites, a scan has none, or a fold leaves too few to train on.
    """
    sites = cohort.table["site"].fillna("").astype(str)
    names = sorted(set(sites))
    if len(names) < 2 or "" in names:
        problem = f"to leave a site out, every scan needs one, of two or more; got {names}."
        raise CohortError(cohort.source, problem, "Name the column: --column site=SCANNER.")
    splits = []
    for name in names:
        there = cohort.table["subject_id"][sites == name].to_numpy(dtype=str)
        built = _leave_out(cohort, there, split, f"leaving out site {name!r}: ")
        here = np.flatnonzero((sites == name).to_numpy())
        splits.append(Split(built.train, built.validation, here))
    return splits


def check_disjoint(cohort: Cohort, split: Split) -> None:
    """Check that the parts share no subject and no scan, and lie inside the cohort.

    Raises
    ------
    CohortError
        Naming the first subject or position that breaks the rule.
    """
    seen: dict[str, str] = {}
    subjects = cohort.table["subject_id"].to_numpy()
    for part in ("train", "validation", "test"):
        indices: _Indices = getattr(split, part)
        if len(np.unique(indices)) != len(indices):
            raise CohortError(cohort.source, f"a scan comes twice in the {part} part.")
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(cohort):
            raise CohortError(cohort.source, f"the {part} part has scans outside the cohort.")
        for subject in np.unique(subjects[indices]):
            if subject in seen:
                problem = f"subject {subject!r} is in the {seen[subject]} and the {part} part."
                raise CohortError(cohort.source, problem, "Split by subject.")
            seen[subject] = part


SPLIT_HASHES = {"split_id_hashes": "scan_id", "split_subject_hashes": "subject_id"}
"""Facts of a model that keep its split, and the columns whose ids are hashed."""


def hash_ids(ids: Iterable[str]) -> list[str]:
    """SHA-256 of each id, to keep a split with a model without keeping ids.

    With a list of ids one can tell which of them are meant, and not without.
    """
    return [sha256_bytes(name.encode("utf-8", "surrogateescape")) for name in ids]


def _leave_out(cohort: Cohort, test: _Subjects, split: SplitConfig, why: str = "") -> Split:
    """Test some subjects; of the others, and of nothing else, validation subjects are drawn."""
    rest = cohort.select(~cohort.table["subject_id"].isin(test).to_numpy())
    ordered = _order_subjects(rest)
    n_validation = _n_validation(ordered, split)
    if len(ordered) - n_validation < 1:
        problem = f"{why}{len(ordered)} subjects - {n_validation} for validation leave 0 to train."
        raise CohortError(cohort.source, problem, "At least 2 subjects are needed beside the test.")
    validation = _draw(ordered, n_validation, np.random.default_rng(split.seed))
    return _build_split(cohort, validation, test)


def _order_subjects(cohort: Cohort) -> _Subjects:
    """Subjects by age bin, site, age and id: neighbours are alike."""
    # Sorted first, so that nothing below depends on the order of the table's rows.
    table = cohort.table.sort_values("scan_id")
    subjects = table.groupby("subject_id", sort=True).agg(
        age_years=("age_years", "mean"), site=("site", "first")
    )
    # An unknown age is no obstacle to a split: such subjects form the last bins.
    subjects["age_years"] = subjects["age_years"].fillna(np.inf)
    rank = np.lexsort((subjects.index.to_numpy(dtype=str), subjects["age_years"])).argsort()
    subjects["age_bin"] = rank * AGE_BINS // max(len(subjects), 1)
    ordered = subjects.reset_index().sort_values(["age_bin", "site", "age_years", "subject_id"])
    return ordered["subject_id"].to_numpy(dtype=str)


def _share(n_subjects: int, fraction: float) -> int:
    return max(1, round(fraction * n_subjects))


def _n_validation(ordered: _Subjects, split: SplitConfig) -> int:
    return _share(len(ordered), split.validation_fraction)


def _draw(ordered: _Subjects, count: int, rng: np.random.Generator) -> _Subjects:
    """One subject at random from each of `count` runs of nearly equal length."""
    edges = np.arange(count + 1) * len(ordered) // count
    return ordered[rng.integers(edges[:-1], edges[1:])]


def _check_folds(source: str, n_subjects: int, folds: int, split: SplitConfig) -> None:
    def n_validation(number: int) -> int:
        return _share(n_subjects - -(-n_subjects // number), split.validation_fraction)

    def n_train(number: int) -> int:
        return n_subjects - -(-n_subjects // number) - n_validation(number)

    if 2 <= folds <= n_subjects and n_train(folds) >= 1:
        return
    working = [number for number in range(2, min(n_subjects, 10) + 1) if n_train(number) >= 1]
    if folds < 2 or folds > n_subjects:
        problem = f"{folds} folds of {n_subjects} subjects, expected 2 to {n_subjects}."
    else:
        problem = (
            f"{n_subjects} subjects - {-(-n_subjects // folds)} for test (1 of {folds} folds) - "
            f"{n_validation(folds)} for validation leave {max(n_train(folds), 0)} to train."
        )
    remedy = f"--folds {working[-1]} works." if working else "At least 3 subjects are needed."
    raise CohortError(source, problem, remedy)


def _build_split(cohort: Cohort, validation: _Subjects, test: _Subjects) -> Split:
    subjects: pd.Series = cohort.table["subject_id"]
    in_validation, in_test = subjects.isin(validation), subjects.isin(test)
    parts = (~(in_validation | in_test), in_validation, in_test)
    split = Split(*(np.flatnonzero(part.to_numpy()) for part in parts))
    check_disjoint(cohort, split)
    return split
