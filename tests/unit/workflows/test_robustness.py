"""Robustness: what is computed once, taken up again, and refused."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import brainage
from brainage.cli.main import app
from brainage.cohorts.cohort import Cohort
from brainage.cohorts.splits import hash_ids
from brainage.errors import BrainageError, BundleError, CohortError, ConfigError
from brainage.inference.model import Model
from brainage.model.build import build_model
from brainage.model.bundle import Bundle, load_bundle, save_bundle
from brainage.prepared.arrays import PreparedScan, pack_scan
from brainage.prepared.perturbed import perturbed_key
from brainage.prepared.source import ScanSource, hash_source
from brainage.prepared.store import PreparedStore
from brainage.sandbox.engines import Engine
from brainage.sandbox.parent import Outcome
from brainage.types import Json
from brainage.workflows import release as release_job
from brainage.workflows import robustness as job
from tests.small import SHAPE, make_config

CONFIG = make_config("cnn3d_light")
MODEL = Model(Bundle(build_model(CONFIG).eval(), CONFIG, {}, "weights"))


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Changed scans that were asked for; they are prepared in no time, and `sub-0003` fails."""
    names: list[str] = []

    def run(task: str, arguments: Sequence[Json], engine: Engine) -> Iterator[tuple[int, Outcome]]:
        for position, argument in enumerate(arguments):
            names.append(f"{argument['scan_id']} {argument['name']}")
            rng = np.random.default_rng(argument["seed"])
            array = rng.normal(size=SHAPE).astype(np.float16)
            scan_hash = hash_source(ScanSource(argument["path"], argument["scan_id"]))
            scan, key = (
                PreparedScan(array, "raw head", "ok", (), {}),
                perturbed_key(argument, scan_hash),
            )
            PreparedStore(Path(argument["cache"])).save("array", key, *pack_scan(scan))
            is_bad = argument["scan_id"] == "sub-0003"
            yield position, Outcome({"reason": "no brain"} if is_bad else {"key": key}, "", 2.0)

    monkeypatch.setattr(job, "run_tasks", run)
    return names


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Eight scans on disk, of which only the bytes count."""
    rows = ["scan_id,age,path"]
    for number in range(1, 9):
        (tmp_path / f"{number}.nii").write_text(f"scan {number}")
        rows.append(f"sub-{number:04d},50,{number}.nii")
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    return tmp_path / "cohort.csv"


@pytest.fixture
def cohort(table: Path) -> Cohort:
    return brainage.read_cohort(table).cohort.select(np.arange(3))


def test_rows_hold_the_change_and_failed_scans_are_left_out(cohort, tmp_path):
    with pytest.warns(UserWarning, match="sub-0003: no brain"):
        summary = brainage.robustness(cohort, tmp_path / "out", MODEL, only=["noise", "background"])
    rows = pd.read_csv(tmp_path / "out" / "robustness.csv").set_index(["scan_id", "perturbation"])
    ages = rows["predicted_age_years"]
    for scan in ("sub-0001", "sub-0002"):
        change = ages[scan, "noise_3"] - ages[scan, "unchanged"]
        assert rows.loc[(scan, "noise_3"), "change_years"] == pytest.approx(change)
    assert len(rows) == 3 + 2 * 2 and np.isnan(ages["sub-0003", "unchanged"])
    # Backgrounds are for stripped brains alone, and these are whole heads.
    assert summary["perturbation"].tolist() == ["noise_3", "noise_8"] and (summary["n"] == 2).all()
    for name in ("summary.csv", "summary.json", "robustness.png"):
        assert (tmp_path / "out" / name).stat().st_size


@pytest.mark.filterwarnings("ignore:sub-0003")
def test_what_was_interrupted_goes_on_and_nothing_is_computed_twice(
    cohort, tmp_path, asked, monkeypatch
):
    fast = job.run_tasks

    def interrupted(*how: object) -> Iterator[tuple[int, Outcome]]:
        for number, item in enumerate(fast(*how)):
            if number == 2 and asked[-1].endswith("noise_3"):
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(job, "run_tasks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        brainage.robustness(cohort, tmp_path / "out", MODEL, only=["noise"])
    first = list(asked)
    monkeypatch.setattr(job, "run_tasks", fast)
    brainage.robustness(cohort, tmp_path / "out", MODEL, only=["noise"])
    assert asked[len(first) :] == ["sub-0002 noise_3", "sub-0002 noise_8"]
    before = (tmp_path / "out" / "robustness.csv").read_bytes()
    brainage.robustness(cohort, tmp_path / "out", MODEL, only=["noise"])
    assert (tmp_path / "out" / "robustness.csv").read_bytes() == before
    brainage.robustness(cohort, tmp_path / "out", MODEL, only=["flip_x"])
    assert asked[-2:] == ["sub-0001 flip_x", "sub-0002 flip_x"]


@pytest.mark.filterwarnings("ignore:sub-0003")
def test_rows_of_another_model_or_seed_or_none_at_all_are_refused(cohort, tmp_path):
    brainage.robustness(cohort, tmp_path / "out", MODEL, only=["scale"])
    other = Model(Bundle(MODEL.bundle.model, CONFIG, {}, "other weights"))
    for model, seed in ((other, 0), (MODEL, 1)):
        with pytest.raises(ConfigError, match="another model, seed or version"):
            brainage.robustness(cohort, tmp_path / "out", model, only=["scale"], seed=seed)
    (tmp_path / "out" / "robustness.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match=r"robustness\.csv"):
        brainage.robustness(cohort, tmp_path / "out", MODEL, only=["scale"])


@pytest.mark.filterwarnings("ignore:sub-0003")
def test_a_larger_sample_holds_the_smaller_one(table, tmp_path, asked):
    brainage.robustness(table, tmp_path / "out", MODEL, only=["deface"], sample=3)
    # Drawn from all eight, not the first three of them.
    assert any(name > "sub-0004" for name in asked)
    for size in (3, 6):
        brainage.robustness(table, tmp_path / "out", MODEL, only=["deface"], sample=size)
    assert len(asked) == len(set(asked)) and sum("unchanged" in name for name in asked) == 6


@pytest.mark.filterwarnings("ignore:sub-0003")
def test_without_a_usable_scan_there_is_no_result(cohort, tmp_path):
    with pytest.raises(BrainageError, match="no scan can be used"):
        brainage.robustness(cohort.select(np.array([2])), tmp_path / "out", MODEL)
    with pytest.raises(BrainageError, match="other kinds of scans"):
        brainage.robustness(cohort, tmp_path / "out", MODEL, only=["background"])


@pytest.mark.filterwarnings("ignore:sub-0003")
def test_the_card_of_a_released_model_holds_its_own_figures(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(release_job, "_predict_phantom", lambda model: 50.0)
    for name, seed in (("model", 0), ("other", 1)):
        config = CONFIG.model_copy(update={"seed": seed})
        facts = {"split_subject_hashes": {"train": hash_ids(["sub-0001"]), "validation": []}}
        save_bundle(tmp_path / name, build_model(config).eval(), config, facts)
    brainage.robustness(cohort, tmp_path / "out", tmp_path / "model", only=["noise", "flip"])
    rows = pd.read_csv(tmp_path / "out" / "robustness.csv")
    assert rows.groupby("scan_id")["in_training"].unique().map(list).tolist() == [
        [True],
        [False],
        [False],
    ]
    summary = tmp_path / "out" / "summary.json"
    release_job.release(tmp_path / "model", tmp_path / "small", robustness=summary)
    card = (tmp_path / "small" / "card.md").read_text()
    assert "1 of the 3 scans are of people in training" in card
    assert "| noise | whole head | 4 |" in card and "| flip | whole head | 10 |" in card
    with pytest.raises(BundleError, match="another model"):
        release_job.release(tmp_path / "other", tmp_path / "wrong", robustness=summary)
    for text in ("{}", "no JSON", '{"groups": [{"a": 1}], "weights_sha256": "x"}'):
        summary.write_text(text)
        with pytest.raises(BundleError, match="no figures"):
            release_job.release(tmp_path / "model", tmp_path / "wrong", robustness=summary)
    assert not (tmp_path / "wrong").exists()


def test_a_released_model_keeps_what_sites_left_out_taught(tmp_path, monkeypatch):
    monkeypatch.setattr(release_job, "_predict_phantom", lambda model: 50.0)
    save_bundle(tmp_path / "model", build_model(CONFIG).eval(), CONFIG, {})
    ages = np.linspace(20, 80, 60)
    table = pd.DataFrame({"scan_id": [f"s{n}" for n in range(60)], "age_years": ages})
    table["subject_id"], table["site"] = table["scan_id"], ["a", "b"] * 30
    table["predicted_age_years"] = ages + np.tile([6.0, 6.0, -9.0, -9.0], 15)
    table["spread_years"] = 8.0
    table.to_csv(tmp_path / "predictions.csv", index=False)
    path = tmp_path / "predictions.csv"
    release_job.release(tmp_path / "model", tmp_path / "small", left_out=path)
    card = (tmp_path / "small" / "card.md").read_text()
    assert "| a | 30 | 7.50 " in card and "Intervals around new scans" in card
    assert "absolute scores of 60 people (sites left out)" in card
    fitted = load_bundle(tmp_path / "small").intervals
    assert fitted is not None and fitted.n_subjects_ == 60 and fitted.kind == "absolute"
    table.drop(columns="site").to_csv(path, index=False)
    with pytest.raises(CohortError, match="site"):
        release_job.release(tmp_path / "model", tmp_path / "wrong", left_out=path)


def test_a_released_model_knows_how_far_retests_vary(tmp_path, monkeypatch):
    monkeypatch.setattr(release_job, "_predict_phantom", lambda model: 50.0)
    save_bundle(tmp_path / "model", build_model(CONFIG).eval(), CONFIG, {})
    rows = [(f"s{n}-{visit}", f"s{n}", 40.0 + n) for n in range(4) for visit in range(2)]
    table = pd.DataFrame(rows, columns=["scan_id", "subject_id", "age_years"])
    table["predicted_age_years"] = table["age_years"] + np.tile([1.0, 3.0], 4)
    path = tmp_path / "predictions.csv"
    table.to_csv(path, index=False)
    release_job.release(tmp_path / "model", tmp_path / "small", retests=path)
    facts = load_bundle(tmp_path / "small").facts
    assert facts["retests"] == {"n_subjects": 4, "within_sd_years": 1.414}
    assert "varies by 1.4 years" in (tmp_path / "small" / "card.md").read_text()
    # Two years apart is no retest.
    table["age_years"] += np.tile([0.0, 2.0], 4)
    table.to_csv(path, index=False)
    with pytest.raises(CohortError, match="two scans within"):
        release_job.release(tmp_path / "model", tmp_path / "wrong", retests=path)


def test_an_unknown_perturbation_is_bad_input(tmp_path):
    words = ["robustness", "--cohort", "demo", "--output", str(tmp_path / "o"), "--only", "nose_3"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "noise_3" in result.output
    assert not (tmp_path / "o").exists()
