import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainage.cohorts.cohort import Cohort
from brainage.cohorts.splits import (
    Split,
    check_disjoint,
    hash_ids,
    hold_out_validation,
    make_column_folds,
    make_folds,
    make_site_folds,
    make_split,
)
from brainage.config import SplitConfig
from brainage.errors import CohortError

PARTS = ("train", "validation", "test")


def make_cohort(subjects: list[str], ages: list[float], sites: list[str]) -> Cohort:
    count = len(subjects)
    return Cohort(
        pd.DataFrame(
            {
                "scan_id": [f"scan{n}" for n in range(count)],
                "subject_id": subjects,
                "session_id": "",
                "age_years": ages,
                "sex": "",
                "site": sites,
                "path": "/scan.nii",
            }
        ),
        "made up",
    )


def random_cohort(count: int, seed: int = 0) -> Cohort:
    """About 1.5 scans a subject, two sites."""
    rng = np.random.default_rng(seed)
    subjects = [f"s{n}" for n in rng.integers(0, max(count * 2 // 3, 1), count)]
    ages = rng.uniform(18, 90, count).tolist()
    return make_cohort(subjects, ages, rng.choice(["A", "B"], count, p=[0.8, 0.2]).tolist())


def ids(cohort: Cohort, split: Split) -> dict[str, set[str]]:
    return {part: set(cohort.select(getattr(split, part)).table["scan_id"]) for part in PARTS}


def from_rows(rows: list[tuple[int, float, str]]) -> Cohort:
    subjects, ages, sites = zip(*rows, strict=True)
    return make_cohort([f"s{number}" for number in subjects], list(ages), list(sites))


cohorts = st.lists(
    st.tuples(
        st.integers(0, 25),
        st.one_of(st.floats(0, 120), st.just(float("nan"))),
        st.sampled_from(["", "A", "B"]),
    ),
    min_size=1,
    max_size=60,
).map(from_rows)


@settings(deadline=None, max_examples=80)
@given(cohorts, st.integers(0, 5), st.floats(0.05, 0.6), st.floats(0.05, 0.6))
def test_no_subject_is_in_two_parts(cohort, seed, test_fraction, validation_fraction) -> None:
    config = SplitConfig(
        test_fraction=test_fraction, validation_fraction=validation_fraction, seed=seed
    )
    try:
        split = make_split(cohort, config)
    except CohortError:
        return
    subjects = [set(cohort.table["subject_id"].iloc[getattr(split, part)]) for part in PARTS]
    assert all(subjects) and sum(map(len, subjects)) == len(set().union(*subjects))
    everything = np.concatenate([split.train, split.validation, split.test])
    assert sorted(everything) == list(range(len(cohort)))


@settings(deadline=None, max_examples=80)
@given(cohorts, st.integers(2, 8), st.integers(0, 5))
def test_every_subject_is_tested_in_exactly_one_fold(cohort, folds, seed) -> None:
    try:
        splits = make_folds(cohort, folds, SplitConfig(seed=seed))
    except CohortError:
        return
    tested = [set(cohort.table["subject_id"].iloc[split.test]) for split in splits]
    assert sum(map(len, tested)) == cohort.table["subject_id"].nunique()
    assert set().union(*tested) == set(cohort.table["subject_id"])
    assert max(map(len, tested)) - min(map(len, tested)) <= 1
    for split in splits:
        assert len(split.train) and len(split.validation)
        check_disjoint(cohort, split)


def test_parts_do_not_depend_on_the_order_of_rows() -> None:
    cohort = random_cohort(90)
    mixed = cohort.select(np.random.default_rng(1).permutation(90))
    assert ids(cohort, make_split(cohort, SplitConfig())) == ids(
        mixed, make_split(mixed, SplitConfig())
    )
    for one, other in zip(
        make_folds(cohort, 4, SplitConfig()), make_folds(mixed, 4, SplitConfig()), strict=True
    ):
        assert ids(cohort, one) == ids(mixed, other)


def test_the_seed_decides() -> None:
    cohort = random_cohort(90)
    first, again, other = (make_split(cohort, SplitConfig(seed=seed)) for seed in (0, 0, 1))
    assert ids(cohort, first) == ids(cohort, again) != ids(cohort, other)


def test_indices_are_sorted() -> None:
    split = make_split(random_cohort(90), SplitConfig())
    assert all((np.diff(getattr(split, part)) > 0).all() for part in PARTS)


def test_parts_have_their_shares_of_subjects() -> None:
    cohort = make_cohort([f"s{n}" for n in range(200)], list(range(100)) * 2, ["A"] * 200)
    split = make_split(cohort, SplitConfig(test_fraction=0.25, validation_fraction=0.1))
    assert [len(getattr(split, part)) for part in PARTS] == [130, 20, 50]


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_alike_in_age_and_site(seed: int) -> None:
    cohort = random_cohort(600, seed)
    ages, sites = cohort.table["age_years"], cohort.table["site"] == "A"
    splits = [make_split(cohort, SplitConfig(seed=seed))]
    splits += make_folds(cohort, 5, SplitConfig(seed=seed))
    for split in splits:
        # Plain random draws of 80 subjects miss the mean age by 2 years, one time in three.
        assert abs(ages[split.test].mean() - ages.mean()) < 3.5
        assert abs(sites[split.test].mean() - sites.mean()) < 0.09


def test_every_tenth_of_the_ages_is_tested_alike() -> None:
    cohort = make_cohort([f"s{n:03}" for n in range(200)], list(range(100)) * 2, ["A"] * 200)
    for split in [make_split(cohort, SplitConfig()), *make_folds(cohort, 5, SplitConfig())]:
        tenths = (cohort.table["age_years"].iloc[split.test] // 10).value_counts()
        assert tenths.tolist() == [4] * 10


def test_sites_of_equal_size_are_tested_alike() -> None:
    cohort = make_cohort([f"s{n:03}" for n in range(200)], [50.0] * 200, ["A", "B"] * 100)
    for split in [make_split(cohort, SplitConfig()), *make_folds(cohort, 5, SplitConfig())]:
        assert cohort.table["site"].iloc[split.test].value_counts().tolist() == [20, 20]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_subjects_are_refused_with_the_arithmetic(count: int) -> None:
    cohort = make_cohort([f"s{n}" for n in range(count)] * 5, [30.0] * 5 * count, ["A"] * 5 * count)
    message = f"{count} subjects - 1 for test .* - 1 for validation .* leave 0 .*At least 3"
    with pytest.raises(CohortError, match=message):
        make_split(cohort, SplitConfig())


def test_three_subjects_are_enough() -> None:
    cohort = make_cohort(["a", "b", "c"], [30.0] * 3, ["A"] * 3)
    assert [len(getattr(make_split(cohort, SplitConfig()), part)) for part in PARTS] == [1, 1, 1]
    assert len(make_folds(cohort, 3, SplitConfig())) == 3


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (1, "1 folds of 6 subjects, expected 2 to 6. --folds 6 works"),
        (7, "7 folds of 6 subjects, expected 2 to 6. --folds 6 works"),
        (2, "6 subjects - 3 for test .* - 3 for validation leave 0 to train. --folds 6 works"),
    ],
)
def test_impossible_folds_are_refused_with_a_number_that_works(folds: int, message: str) -> None:
    cohort = make_cohort([f"s{n}" for n in range(6)], [30.0] * 6, ["A"] * 6)
    config = SplitConfig(validation_fraction=0.9)
    with pytest.raises(CohortError, match=message):
        make_folds(cohort, folds, config)
    assert len(make_folds(cohort, 6, config)) == 6


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([0], [1], [2]), "'x' is in the train and the test part"),
        (([0, 2], [1], [1]), "'y' is in the validation and the test part"),
        (([0, 0], [1], []), "twice in the train part"),
        (([0, 2], [1], [3]), "outside the cohort"),
        (([0, 2], [-1], []), "outside the cohort"),
    ],
)
def test_a_leaking_split_is_found(parts, message: str) -> None:
    cohort = make_cohort(["x", "y", "x"], [30.0] * 3, ["A"] * 3)
    split = Split(*(np.array(part, dtype=np.int64) for part in parts))
    with pytest.raises(CohortError, match=message):
        check_disjoint(cohort, split)


def test_ids_are_hashed_one_by_one() -> None:
    assert hash_ids(["a", "é"]) == [hashlib.sha256(t.encode()).hexdigest() for t in ("a", "é")]
    # A name of a file whose bytes are no text.
    assert hash_ids(["\udce9"]) == [hashlib.sha256(b"\xe9").hexdigest()]


def test_a_hundred_thousand_scans_are_split() -> None:
    cohort = random_cohort(100_000)
    assert len(make_split(cohort, SplitConfig()).test) > 19_000
    assert len(make_folds(cohort, 5, SplitConfig())) == 5


def test_each_site_is_tested_once_by_people_who_were_never_there():
    cohort = random_cohort(60)
    splits = make_site_folds(cohort, SplitConfig())
    sites, subjects = cohort.table["site"], cohort.table["subject_id"]
    assert [set(sites[split.test]) for split in splits] == [{"A"}, {"B"}]
    assert sum(len(split.test) for split in splits) == len(cohort)
    for split in splits:
        used = np.concatenate([split.train, split.validation])
        assert not set(subjects[used]) & set(subjects[split.test])


@pytest.mark.parametrize("sites", [["A"] * 6, ["A", "B", "", "A", "B", "A"]])
def test_leaving_a_site_out_needs_sites(sites):
    cohort = make_cohort([f"s{n}" for n in range(6)], list(range(20, 26)), sites)
    with pytest.raises(CohortError, match="--column site"):
        make_site_folds(cohort, SplitConfig())


def fold_table() -> Cohort:
    subjects = [f"s{n}" for n in range(12) for _ in range(2)]
    cohort = make_cohort(subjects, list(np.linspace(20, 80, 24)), ["A"] * 24)
    return Cohort(cohort.table.assign(fold=[n % 3 for n in range(12) for _ in range(2)]), "here")


def test_a_columns_values_are_the_folds_and_validation_is_of_the_rest() -> None:
    cohort, config = fold_table(), SplitConfig(validation_fraction=0.25)
    for number, split in enumerate(make_column_folds(cohort, "fold", config)):
        assert (cohort.table["fold"].iloc[split.test] == number).all()
        assert cohort.table["subject_id"].iloc[split.validation].nunique() == 2
        # What is held out of a fold's other scans does not depend on the fold itself.
        rest = cohort.select(cohort.table["fold"].to_numpy() != number)
        alone = hold_out_validation(rest, config)
        inside = set(cohort.table["scan_id"].iloc[split.validation])
        assert inside == set(rest.table["scan_id"].iloc[alone.validation])


@pytest.mark.parametrize("column", ["absent", "blank", "one", "torn", "mixed", "site"])
def test_columns_that_hold_no_folds_are_refused(column: str) -> None:
    table = fold_table().table
    table = table.assign(blank=[None, *range(23)], one=0, torn=np.arange(24) % 2)
    people = table["subject_id"].astype("category").cat.codes
    table["mixed"] = people.astype(object).where(people > 5, "A")
    table["site"] = table["subject_id"].where(people > 0, "")
    with pytest.raises(CohortError):
        make_column_folds(Cohort(table, "here"), column, SplitConfig())
