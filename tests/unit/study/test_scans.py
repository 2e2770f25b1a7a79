"""A study on scans cross-validates every setting and pairs it with the base by scan."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
import yaml

from brainage.cohorts.phantom import write_phantom_cohort
from brainage.config import config_folder
from pipelines.study.engine import run_study
from pipelines.study.pairing import paired_with
from pipelines.study.records import StudyOptions
from pipelines.study.table import DIFFERENCE_COLUMNS, Results, to_markdown


def results(errors: dict[float, list[float]]) -> Results:
    """A table of δ and the errors of scans s0, s1, … of as many people."""
    curves = [
        {
            "blocks": 4,
            "leader_fraction": fraction,
            "seed": seed,
            "line": f"s{n}",
            "subject": f"p{n}",
        }
        | {"value": value + seed}
        for fraction, values in errors.items()
        for seed in (0, 1)
        for n, value in enumerate(values)
    ]
    table = pd.DataFrame({"blocks": 4, "leader_fraction": list(errors)})
    return Results(table, ("blocks", "leader_fraction"), (), pd.DataFrame(curves))


def test_a_setting_is_paired_with_the_base_scan_by_scan() -> None:
    refined = paired_with(leader_fraction=1.0)(results({1.0: [3.0, 9.0], 0.5: [2.0, 8.0]})).table
    assert refined[DIFFERENCE_COLUMNS[0]].isna().tolist() == [True, False]
    # every scan is better by exactly one year, so that resampling people changes nothing
    assert refined.loc[1, list(DIFFERENCE_COLUMNS)].tolist() == [-1.0, -1.0, -1.0]


def test_seeds_are_paired_by_student_s_interval() -> None:
    found = results({1.0: [3.0, 9.0], 0.5: [2.0, 8.0]})
    worse = (found.curves["leader_fraction"] == 0.5) & (found.curves["seed"] == 1)
    found.curves.loc[worse, "value"] += 0.2
    refined = paired_with("seed", leader_fraction=1.0)(found).table
    # differences -1 and -0.8 of two seeds: 12.706 standard errors of 0.1 each way
    mean, low, high = refined.loc[1, list(DIFFERENCE_COLUMNS)]
    assert (mean, low, high) == pytest.approx((-0.9, -0.9 - 1.2706, -0.9 + 1.2706), abs=1e-4)


@pytest.mark.parametrize("over", ["line", "seed"])
def test_a_seed_that_one_setting_lacks_counts_for_neither(over: Literal["line", "seed"]) -> None:
    found = results({1.0: [3.0, 9.0], 0.5: [3.0, 9.0], 0.25: [3.0, 9.0]})
    # seed 1 is harder by a year; of it δ = 0.5 has no run, and δ = 0.25 has no other
    absent = {(0.5, 1), (0.25, 0)}
    pairs = found.curves[["leader_fraction", "seed"]].itertuples(index=False, name=None)
    found = replace(found, curves=found.curves[[pair not in absent for pair in pairs]])
    refined = paired_with(over, leader_fraction=1.0)(found)
    assert refined.table["minus_base"].tolist()[1:] == [0.0, 0.0]
    page = to_markdown(replace(refined, table=refined.table.assign(seeds=1)), title="", notes=[])
    assert page.count("base |") == 1


@pytest.mark.slow
def test_the_study_runs_on_a_cohort(tmp_path: Path) -> None:
    write_phantom_cohort(tmp_path / "oasis1", subjects=15, seed=3, spacing_mm=8)
    cohort = tmp_path / "oasis1" / "cohort.csv"
    table = pd.read_csv(cohort).assign(CDR=0.0)
    table.to_csv(cohort, index=False)
    # OASIS-1 has a scan that no gate lets pass: the others count.
    (cohort.parent / table["path"][0]).write_bytes(b"damaged")
    content = yaml.safe_load((config_folder() / "study" / "brain_age.yaml").read_text())
    run = content["runs"]["oasis1"]
    run["preprocessing"] |= {"spacing_mm": 12.0, "shape": [15, 18, 15]}
    run["network"]["arguments"] = {"channels": [4, 8]}
    run["training"] |= {"epochs": 1}
    plan = {"method": ["lfnn_l"], "blocks": [2], "leader_fraction": [0.5, 1.0]}
    content |= {"plan": [plan], "seeds": [0]}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content))
    run_study("brain_age", StudyOptions(tmp_path, tmp_path, config=path, tracking_uri="off"))
    text = (tmp_path / "brain_age.md").read_text()
    assert "minus base" in text and "| base |" in text
