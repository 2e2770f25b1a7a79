"""Finetuning learns what a site shifts, judges itself on people it did not learn from."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from brainage.cohorts.cohort import Cohort
from brainage.errors import CohortError, TrainingError
from brainage.model.build import build_model, build_target
from brainage.model.bundle import load_bundle, save_bundle, save_ensemble
from brainage.serving.model_facts import held_out_metrics
from brainage.training.finetuning import finetune_head, read_features
from brainage.training.run import PreparedCohort
from brainage.workflows import finetune as job
from brainage.workflows import own_site
from brainage.workflows.calibrate import calibrate
from brainage.workflows.cohorts import CohortOptions
from brainage.workflows.evaluate import evaluate
from brainage.workflows.seen import unseen_rows
from tests.small import SHAPE, make_config

CONFIG = make_config("cnn3d_light")
PEOPLE = 40


def make_scans(count: int = PEOPLE) -> tuple[np.ndarray, np.ndarray]:
    """Scans whose brightness tells the age."""
    rng = np.random.default_rng(0)
    ages = rng.uniform(20, 80, count)
    noise = rng.normal(0, 0.2, (count, *SHAPE))
    return (noise + ages[:, None, None, None] / 40).astype(np.float16), ages


def test_the_head_learns_and_all_else_stays() -> None:
    arrays, ages = make_scans()
    model, target = build_model(CONFIG).eval(), build_target(CONFIG.target)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    features = read_features(model, arrays)
    tuned = finetune_head(model, target, features, ages)
    last = len(model) - 1
    for name, tensor in tuned.state_dict().items():
        assert torch.equal(model.state_dict()[name], before[name])
        if not name.startswith(f"blocks.{last}.head") or "running" in name:
            assert torch.equal(tensor, before[name]), name

    def error(stack: torch.nn.Module) -> float:
        with torch.no_grad():
            outputs = stack.read_out(last, features[0])
        return float((target.predict(outputs)[:, 0] - torch.as_tensor(ages)).abs().mean())

    assert error(tuned) < error(model) - 0.2
    again = finetune_head(model, target, features, ages)
    assert all(map(torch.equal, tuned.state_dict().values(), again.state_dict().values()))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for name in ("a", "b"):
        config = CONFIG.model_copy(update={"seed": ord(name)})
        save_bundle(folder / name, build_model(config).eval(), config, {})
    selftest = {"predicted_age_years": 41.0, "tolerance_years": 0.5}
    retests = {"n_subjects": 9, "within_sd_years": 1.0}
    save_ensemble(folder, ["a", "b"], {"retests": retests, "selftest": selftest})
    return folder


def give(
    monkeypatch: pytest.MonkeyPatch, count: int = PEOPLE, scale: float = 1.0, start: float = 0.0
) -> Cohort:
    arrays, ages = make_scans(count)
    ages = start + scale * ages
    names = [f"sub-{n}" for n in range(count)]
    table = pd.DataFrame({"scan_id": names, "subject_id": names, "age_years": ages})
    table = table.assign(session_id="", sex="", site="", path="")
    prepared = PreparedCohort(Cohort(table, "own.csv"), arrays)
    monkeypatch.setattr(own_site, "prepare_options", lambda *_: (prepared, []))
    return prepared.cohort


def test_folds_judge_and_the_new_model_has_intervals_of_its_own(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch)
    output = tmp_path / "tuned"
    table = job.finetune(model, CohortOptions("own.csv"), output)
    assert len(table) == PEOPLE and set(table["fold"]) == set(range(5))
    untouched = load_bundle(model).predict(make_scans()[0]).predicted_age_years
    np.testing.assert_allclose(table["untouched_age_years"], untouched)
    error = (table["predicted_age_years"] - table["age_years"]).abs().mean()
    assert error < (untouched - table["age_years"]).abs().mean()
    tuned = load_bundle(output)
    assert len(tuned.members) == 2 and tuned.calibration is not None
    assert tuned.calibration.source_ == "40 own people, out of fold"
    assert not unseen_rows(tuned, table).any()  # no test of the new model on these people
    assert tuned.reference is not None and len(tuned.reference.age_years) == PEOPLE
    assert tuned.facts["retests"] is None  # of the heads before
    assert held_out_metrics(tuned.facts)["mae_years"] == pytest.approx(error)
    assert held_out_metrics({"metrics": {"n": 3}}) == {"n": 3}
    assert f"MAE of {error:.2f} years out of fold" in (output / "card.md").read_text()
    with pytest.raises(TrainingError, match="already holds"):
        job.finetune(model, CohortOptions("own.csv"), output)


def test_too_few_people_are_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, 29)
    with pytest.raises(CohortError, match="30"):
        job.finetune(model, CohortOptions("own.csv"), tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize("work", [job.finetune, calibrate])
def test_ages_that_are_all_alike_show_nothing(
    work, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, scale=0.0, start=40.0)
    with pytest.warns(UserWarning, match="people of 40 to 40 years do not show"):
        work(model, CohortOptions("own.csv"), tmp_path / "new")


@pytest.mark.parametrize("work", [job.finetune, calibrate])
def test_people_whom_the_networks_cannot_tell_are_counted(
    work, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, high = load_bundle(model).facts["model_age_range_years"]
    give(monkeypatch, start=high - 50.0)
    outside = int((make_scans()[1] > 50.0).sum())
    with pytest.warns(UserWarning, match=f"{outside} of 40 people are outside the .* {high:.0f}"):
        work(model, CohortOptions("own.csv"), tmp_path / "new")


def test_people_of_several_sites_are_said_and_their_sites_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = give(monkeypatch)
    cohort.table["site"] = ["A", "B"] * (PEOPLE // 2)
    with pytest.warns(UserWarning, match=r"2 sites \(A, B\)"):
        calibrate(model, CohortOptions("own.csv"), tmp_path / "new")
    assert load_bundle(tmp_path / "new").facts["own_sites"] == ["A", "B"]


@pytest.mark.parametrize("work", [job.finetune, calibrate])
def test_the_self_test_of_the_former_ages_is_dropped(
    work, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed, and asked to install the package anew."""
    give(monkeypatch)
    work(model, CohortOptions("own.csv"), tmp_path / "new")
    assert load_bundle(model).facts["selftest"]
    assert load_bundle(tmp_path / "new").facts["selftest"] is None


@pytest.mark.parametrize("work", [job.finetune, calibrate])
def test_no_error_is_told_of_the_people_that_a_model_was_fitted_to(
    work, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = give(monkeypatch)
    work(model, CohortOptions("own.csv"), tmp_path / "new")
    with (
        pytest.warns(UserWarning, match="40 of 40"),
        pytest.raises(CohortError, match="people that the model was fitted"),
    ):
        evaluate(tmp_path / "new", tmp_path / "out", cohort=cohort)
    calibrate_again = unseen_rows(load_bundle(tmp_path / "new"), cohort.table)
    assert calibrate_again.all() == (work is calibrate)


def test_a_constant_model_does_not_seem_better_than_the_median() -> None:
    """Around a gap of ages, the median of the others lies on its other side."""
    ages = np.repeat([20.0, 80.0], 20)
    site = own_site.SiteCohort(None, pd.DataFrame({"age_years": ages}), np.empty(0), [])
    with pytest.warns(UserWarning, match="people of 20 to 80 years do not show"):
        site.compare_constant(np.abs(ages - 50.0))
