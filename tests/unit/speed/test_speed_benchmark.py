"""Turns, tables and plans of the benchmark; runs in this process, on tiny networks."""

import math
import shutil
from concurrent.futures import Future

import numpy as np
import pandas as pd
import pytest
import torch

from brainage.cohorts.cohort import Cohort
from brainage.cohorts.splits import Split
from brainage.config import with_changes
from brainage.errors import ConfigError
from brainage.lfnn.rules import METHOD_RULES
from brainage.networks import build_stages
from brainage.training.run import PreparedCohort
from pipelines.speed import benchmark
from pipelines.speed.plan import Candidate, load_plan, plan_names
from pipelines.speed.runs import SCHEDULES, Epoch, Measurement, RunSettings, resolve_config
from pipelines.speed.single import measure
from pipelines.speed.summary import (
    COLUMNS,
    Result,
    draw,
    overview_tables,
    summarise,
    tabulate_curves,
    tabulate_runs,
    to_markdown,
)
from tests.small import make_config


def make_candidate(name, method, schedule="end_to_end", **more):
    return Candidate(name=name, method=method, schedule=schedule, **more)


def make_result(name, method, repeat, measured, case="all"):
    return Result(case, make_candidate(name, method), "net", 4, repeat, measured)


def trained(*scores, seconds=1.0):
    return tuple(Epoch(seconds * n, score) for n, score in enumerate(scores, start=1))


def test_candidates_take_turns_another_first_each_time_and_their_processes_end(monkeypatch):
    calls, ended = [], []

    class Process:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            ended.append(self)

        def submit(self, function, candidate, settings, repeat):
            calls.append((candidate.name, repeat))
            done = Future()
            done.set_result(Measurement((1.0,), 5.0))
            return done

    candidates = [make_candidate("a", "bp"), make_candidate("b", "lfnn_l", "sequential", repeats=2)]
    monkeypatch.setattr(benchmark, "start_process", Process)
    settings = RunSettings(make_config("cnn3d_light"))
    repeats = list(benchmark.run_case("all", candidates, settings, 3))
    assert calls == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2)]
    names = [[result.candidate.name for result in results] for results in repeats]
    assert names == [["a", "b"], ["a", "b"], ["a"]] and len(ended) == 2


def test_the_target_is_the_best_of_backpropagations_final_errors():
    def result(name, method, repeat, *scores, seconds=1.0):
        epochs = trained(*scores, seconds=seconds)
        return make_result(name, method, repeat, Measurement((), 10.0, epochs=epochs))

    nan = math.nan
    results = [
        result("long", "bp", 0, 9.0, 5.9, 6.0),  # at the target before its end
        result("short", "bp", 0, 9.0, 7.0),
        result("local", "lfnn_l", 0, nan, nan, 7.0, 5.0, seconds=0.2),
        result("long", "bp", 1, 8.0, 7.0, 5.0),
        result("short", "bp", 1, 6.0, 4.0),
        result("local", "lfnn_l", 1, nan, 4.5, seconds=0.2),
    ]
    runs = tabulate_runs(results)
    reached = runs["seconds_to_target"].to_numpy()
    np.testing.assert_allclose(reached, [2.0, nan, 0.8, nan, 2.0, nan])
    local = summarise(runs, "long").set_index("name").loc["local"]
    assert local["target_reached"] == 1 and local["repeats"] == 2
    assert local["seconds_to_target_ratio"] == pytest.approx(0.4)


def test_ratios_are_taken_within_a_repeat(tmp_path):
    steps = {"bp": [1.0, 10.0, 2.0], "lfnn_l": [0.5, 4.0, 1.2]}
    runs = tabulate_runs(
        [
            make_result(name, name, repeat, Measurement((seconds,), 8.0, 2.0))
            for name, listed in steps.items()
            for repeat, seconds in enumerate(listed)
        ]
    )
    summary = summarise(runs, "bp").set_index("name")
    assert summary.loc["lfnn_l", "seconds_per_step_ratio"] == 0.5
    assert summary.loc["lfnn_l", "seconds_per_step"] == 1.2
    text = to_markdown(summary.reset_index(), "Title", ["how"])
    assert "| all | lfnn_l | 4 | 1 | 1.2 [0.85, 2.6] ×0.50 |" in text and "to target" not in text
    draw(runs, tmp_path / "speed.png", "Title", "machine")
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_charts_name_the_case_where_there_are_several():
    done = Measurement((), 1.0, epochs=trained(8.0))
    results = [make_result("long", "bp", 0, done), make_result("long", "bp", 0, done, case="big")]
    for chosen, names in ((results, ["all long", "big long"]), (results[:1], ["long"])):
        runs, curves = overview_tables(tabulate_runs(chosen), tabulate_curves(chosen))
        assert list(runs["method"]) == list(curves["method"]) == names
        assert list(curves["val_mae_years"]) == [8.0] * len(names)


@pytest.mark.parametrize("name", plan_names())
@pytest.mark.parametrize("quick", [True, False])
def test_every_plan_loads_and_its_networks_fit_their_volumes(name, quick):
    plan = load_plan(name)
    plan = plan.shortened() if quick else plan
    for changes in plan.cases.values():
        grid = with_changes(plan.config, changes)
        stages = build_stages(
            grid.network.name, 1, grid.preprocessing.shape, grid.network.arguments
        )
        with torch.device("meta"):
            features = torch.empty(1, *grid.input_shape)
        for stage in stages.values():
            features = stage.to("meta").eval()(features)
        assert grid.learning.blocks is None or grid.learning.blocks <= len(stages)
        config = with_changes(plan.config, changes)
        for candidate in plan.candidates:
            if candidate.schedule in SCHEDULES:
                made = resolve_config(candidate, RunSettings(config))
                local = METHOD_RULES[candidate.method].hidden_loss is not None
                assert local or made.learning.freeze_after is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "none"}, "no candidate is called 'none'"),
        ({"nonsense": 1}, "nonsense"),
        ({"candidates": [{"name": "a", "method": "magic", "schedule": "x"}]}, "must be one of"),
    ],
)
def test_a_wrong_plan_is_refused_in_one_line(change, message, tmp_path):
    import yaml

    content = {
        "title": "t",
        "config": {"network": {"name": "sfcn"}},
        "candidates": [{"name": "bp", "method": "bp", "schedule": "end_to_end"}],
        "baseline": "bp",
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content | change))
    with pytest.raises(ConfigError, match=message) as caught:
        load_plan("", path)
    assert "\n" not in str(caught.value)


def test_a_missing_cohort_and_a_full_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="Give a table"):
        benchmark.run_benchmark(
            benchmark.SpeedOptions("brain_age", tmp_path, quick=True, tracking_uri="off")
        )
    (tmp_path / "speed.csv").write_text("")
    with pytest.raises(ConfigError, match="already holds a benchmark"):
        benchmark.run_benchmark(benchmark.SpeedOptions("memory", tmp_path))


def small_cohort():
    count = 14
    generator = np.random.default_rng(0)
    arrays = generator.normal(size=(count, 16, 16, 16)).astype(np.float16)
    table = pd.DataFrame(
        {
            "scan_id": [f"s{n}" for n in range(count)],
            "subject_id": [f"p{n}" for n in range(count)],
            "session_id": "",
            "path": "",
            "age_years": np.linspace(20.0, 80.0, count),
            "sex": "F",
            "site": "",
        }
    )
    parts = np.split(np.arange(count), [9, 11])
    return PreparedCohort(Cohort(table, "test"), arrays), (Split(*parts),)


@pytest.mark.parametrize("schedule", ["end_to_end", "progressive"])
def test_a_run_trains_and_tells_what_it_cost(schedule):
    prepared, splits = small_cohort()
    config = make_config("cnn3d_light", epochs=3)
    settings = RunSettings(
        config, steps=2, warmup_steps=1, trains=True, prepared=prepared, splits=splits
    )
    method = "bp" if schedule == "end_to_end" else "lfnn_l"
    changes = {} if method == "bp" else {"learning.freeze_after": [1, 1]}
    candidate = make_candidate("x", method, schedule, changes=changes)
    measured = measure(candidate, settings, 0)
    assert len(measured.epochs) == 3 and math.isfinite(measured.epochs[-1].val_score)
    assert len(measured.step_seconds) == (2 if method == "bp" else 0)
    assert math.isnan(measured.epochs[0].val_score) == (method != "bp")
    assert math.isfinite(measured.test_mae_years)
    assert all(0 < epoch.data_share < 1 for epoch in measured.epochs)
    runs = tabulate_runs([make_result("x", method, 0, measured)])
    share = summarise(runs, "x")["data_share"].item()
    assert share == pytest.approx(np.mean([epoch.data_share for epoch in measured.epochs[1:]]))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_a_compiled_run_times_steps_and_counts_no_memory():
    candidate = make_candidate("x", "lfnn_l", "compiled")
    measured = measure(candidate, RunSettings(make_config("cnn3d_light"), steps=2), 0)
    assert len(measured.step_seconds) == 2 and math.isnan(measured.activation_mb)


@pytest.mark.slow
def test_a_quick_benchmark_writes_table_picture_and_summary(tmp_path):
    options = benchmark.SpeedOptions("memory", tmp_path / "out", quick=True, tracking_uri="off")
    benchmark.run_benchmark(options)
    table = pd.read_csv(tmp_path / "out" / "speed.csv")
    assert tuple(table) == COLUMNS and (table["peak_memory_mb"] > 0).all()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"speed.csv", "summary.csv", "speed.md", "speed.png", "machine.json"} <= names
