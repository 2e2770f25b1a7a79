"""Turns, tables and plans of the race; laps in this process, on tiny networks."""

import math
import shutil
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch
from pipelines.speed.entrants import Epoch, Lap, Spec, Track
from pipelines.speed.lap import config_of, run_lap

from brainage.cohorts.cohort import Cohort
from brainage.cohorts.splits import Split
from brainage.errors import ConfigError
from brainage.lfnn.rules import METHOD_RULES
from brainage.networks import build_stages
from brainage.training.run import PreparedCohort
from pipelines.speed import race
from pipelines.speed.plan import load_plan, plan_names
from pipelines.speed.summary import COLUMNS, Result, draw, speed_table, summarise, to_markdown
from tests.small import make_config


@dataclass
class Runner:
    """An entrant whose laps are given."""

    spec: Spec
    laps: list[Lap]
    calls: list[tuple[str, int]] = field(default_factory=list)
    network: str = "net"
    blocks: int = 4
    closed: bool = False

    def run_lap(self, repeat):
        self.calls.append((self.spec.name, repeat))
        return self.laps[repeat]

    def close(self):
        self.closed = True


def trained(*scores, seconds=1.0):
    return tuple(Epoch(seconds * n, score) for n, score in enumerate(scores, start=1))


def test_entrants_take_turns_another_first_each_time_and_are_closed(monkeypatch):
    calls, laps = [], [Lap((1.0,), 5.0)] * 3
    specs = [Spec("a", "bp", "end_to_end"), Spec("b", "lfnn_l", "sequential", repeats=2)]
    made = {spec.name: Runner(spec, laps, calls) for spec in specs}
    monkeypatch.setattr(race, "build", lambda spec, track: made[spec.name])
    laps = race.run_case("all", specs, Track(make_config("cnn3d_light")), 3, "a")
    results = [result for repeat in laps for result in repeat]
    assert calls == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2)]
    assert len(results) == 5 and all(runner.closed for runner in made.values())


def test_the_target_is_the_best_of_backpropagations_final_errors():
    def result(name, method, repeat, *scores, seconds=1.0):
        spec = Spec(name, method, "end_to_end" if method == "bp" else "progressive")
        lap = Lap((), 10.0, epochs=trained(*scores, seconds=seconds))
        return Result("all", Runner(spec, []), repeat, lap, "long")

    nan = math.nan
    results = [
        result("long", "bp", 0, 9.0, 5.9, 6.0),  # at the target before its end
        result("short", "bp", 0, 9.0, 7.0),
        result("local", "lfnn_l", 0, nan, nan, 7.0, 5.0, seconds=0.2),
        result("long", "bp", 1, 8.0, 7.0, 5.0),
        result("short", "bp", 1, 6.0, 4.0),
        result("local", "lfnn_l", 1, nan, 4.5, seconds=0.2),
    ]
    table = speed_table(results)
    assert tuple(table) == COLUMNS
    reached = table["seconds_to_target"].to_numpy()
    np.testing.assert_allclose(reached, [2.0, nan, 0.8, nan, 2.0, nan])
    local = summarise(results).set_index("name").loc["local"]
    assert local["target_reached"] == 1 and local["repeats"] == 2
    assert local["seconds_to_target_ratio"] == pytest.approx(0.4)


def test_ratios_are_taken_within_a_repeat(tmp_path):
    laps = {"bp": [1.0, 10.0, 2.0], "local": [0.5, 4.0, 1.2]}
    results = [
        Result("all", Runner(Spec(name, name, "x"), []), repeat, Lap((seconds,), 8.0, 2.0), "bp")
        for name, listed in laps.items()
        for repeat, seconds in enumerate(listed)
    ]
    summary = summarise(results).set_index("name")
    assert summary.loc["local", "seconds_per_step_ratio"] == 0.5
    assert summary.loc["local", "seconds_per_step"] == 1.2
    text = to_markdown(summary.reset_index(), "Title", ["how"])
    assert "| all | local | 4 | 1 | 1.2 [0.85, 2.6] ×0.50 |" in text and "to target" not in text
    draw(results, tmp_path / "speed.png", "Title", "machine")
    assert (tmp_path / "speed.png").stat().st_size > 1000


@pytest.mark.parametrize("name", plan_names())
@pytest.mark.parametrize("quick", [True, False])
def test_every_plan_loads_and_its_networks_fit_their_volumes(name, quick):
    plan = load_plan(name)
    plan = plan.shortened() if quick else plan
    for changes in plan.cases.values():
        grid = race.with_changes(plan.config, changes)
        stages = build_stages(
            grid.network.name, 1, grid.preprocessing.shape, grid.network.arguments
        )
        with torch.device("meta"):
            features = torch.empty(1, *grid.input_shape)
        for stage in stages.values():
            features = stage.to("meta").eval()(features)
        assert grid.learning.blocks is None or grid.learning.blocks <= len(stages)
        config = race.with_changes(plan.config, changes)
        for line in plan.entrants:
            if line.schedule in race.lap.SCHEDULES:
                made = config_of(line.to_spec(), Track(config))
                local = METHOD_RULES[line.method].hidden_loss is not None
                assert local or made.learning.freeze_after is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"against": "nobody"}, "no entrant is called 'nobody'"),
        ({"nonsense": 1}, "nonsense"),
        ({"entrants": [{"name": "a", "method": "magic", "schedule": "x"}]}, "must be one of"),
    ],
)
def test_a_wrong_plan_is_refused_in_one_line(change, message, tmp_path):
    import yaml

    content = {
        "title": "t",
        "config": {"network": {"name": "sfcn"}},
        "entrants": [{"name": "bp", "method": "bp", "schedule": "end_to_end"}],
        "against": "bp",
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content | change))
    with pytest.raises(ConfigError, match=message) as caught:
        load_plan("", path)
    assert "\n" not in str(caught.value)


def test_unknown_schedules_and_a_missing_cohort_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown schedule 'magic'"):
        race.build(Spec("a", "bp", "magic"), Track(make_config("cnn3d_light")))
    with pytest.raises(ConfigError, match="Give a table"):
        race.run_race(race.SpeedOptions("brain_age", tmp_path, quick=True, tracking_uri="off"))
    (tmp_path / "speed.csv").write_text("")
    with pytest.raises(ConfigError, match="already holds a race"):
        race.run_race(race.SpeedOptions("memory", tmp_path))


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
def test_a_lap_trains_and_tells_what_it_cost(schedule):
    prepared, splits = small_cohort()
    config = make_config("cnn3d_light", epochs=3)
    track = Track(config, steps=2, warmup_steps=1, trains=True, prepared=prepared, splits=splits)
    method = "bp" if schedule == "end_to_end" else "lfnn_l"
    changes = {} if method == "bp" else {"learning.freeze_after": [1, 1]}
    lap = run_lap(Spec("x", method, schedule, changes=changes), track, 0)
    assert len(lap.epochs) == 3 and math.isfinite(lap.epochs[-1].val_score)
    assert len(lap.step_seconds) == (2 if method == "bp" else 0)
    assert math.isnan(lap.epochs[0].val_score) == (method != "bp")
    assert math.isfinite(lap.test_mae_years)
    assert all(0 < epoch.data_share < 1 for epoch in lap.epochs)
    result = Result("all", Runner(Spec("x", method, schedule), []), 0, lap, "x")
    share = summarise([result])["data_share"].item()
    assert share == pytest.approx(np.mean([epoch.data_share for epoch in lap.epochs[1:]]))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_a_compiled_lap_times_steps_and_counts_no_memory():
    lap = run_lap(Spec("x", "lfnn_l", "compiled"), Track(make_config("cnn3d_light"), steps=2), 0)
    assert len(lap.step_seconds) == 2 and math.isnan(lap.activation_mb)


@pytest.mark.slow
def test_a_quick_race_writes_table_picture_and_summary(tmp_path):
    options = race.SpeedOptions("memory", tmp_path / "out", quick=True, tracking_uri="off")
    race.run_race(options)
    table = pd.read_csv(tmp_path / "out" / "speed.csv")
    assert tuple(table) == COLUMNS and (table["peak_memory_mb"] > 0).all()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"speed.csv", "summary.csv", "speed.md", "speed.png", "machine.json"} <= names
