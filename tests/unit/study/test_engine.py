"""A study runs its plan once, watches its workers, and writes table and picture."""

import gzip
import io
import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from brainage.cli.main import app
from brainage.config import config_folder
from brainage.errors import BrainageError, ConfigError
from brainage.training.schedules import Schedule
from brainage.training.state import TrainingState
from pipelines.study.catalogue import STUDIES
from pipelines.study.engine import describe_data, describe_rest, run_study
from pipelines.study.plan import (
    QuickBudget,
    build_cases,
    describe_reduction,
    load_study,
    study_names,
)
from pipelines.study.records import StudyOptions
from pipelines.study.redraw import redraw

SIZES = {"train": 200, "t10k": 60}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder mnist of noise with a bright row that tells the class."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (root / "mnist").mkdir()
    for part, count in SIZES.items():
        labels = np.arange(count, dtype=np.uint8) % 10
        images = rng.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        images[np.arange(count), 2 * labels + 3] = 255
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
            path = root / "mnist" / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.tobytes(), 1))
    return root


def small_study(name: str, folder: Path, data_root: Path) -> StudyOptions:
    """The study's own settings, on the fake digits, with a budget of a second."""
    source = config_folder() / "study" / f"{name}.yaml"
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    run = content["runs"].get("mnist") or content["runs"]["mnist_438k"]
    run["training"] = {"epochs": 2, "batch_size": 50, "learning_rate": 0.005}
    run["network"] = {"name": "mlp", "arguments": {"widths": [40, 40]}}
    run["learning"] = {"workers_per_block": 4, "leader_fraction": 0.5, "head_norm": "none"}
    fraction = "auto" if name in ("fig_s11", "adaptive") else 0.5
    plan = {"method": ["lfnn_l"], "leader_fraction": [fraction], "follower_weight": [1.0]}
    content |= {"runs": {"mnist": run}, "plan": [plan], "seeds": [0, 1], "quick": {}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return StudyOptions(folder, data_root, config=path, device="cpu", tracking_uri="off")


@pytest.mark.parametrize(
    "name", ["s1", "s7", "s10", "fig_s1", "fig_s2", "fig_s9", "fig_s10", "fig_s11", "adaptive"]
)
def test_a_study_writes_table_csv_and_picture(name: str, tmp_path: Path, data_root: Path) -> None:
    options = small_study(name, tmp_path, data_root)
    results = run_study(name, options)
    metrics = STUDIES[name].metrics
    table = pd.read_csv(tmp_path / f"{name}.csv")
    assert table["seeds"].tolist() == [2]
    assert np.isfinite(results.table[[metrics[0], f"{metrics[0]}_half_width"]]).all(axis=None)
    assert (tmp_path / f"{name}.md").read_text(encoding="utf-8").startswith(f"## {name}: ")
    picture = tmp_path / f"{name}.png"
    drawn = picture.read_bytes()
    picture.unlink()
    assert redraw(name, tmp_path) == picture
    assert drawn.startswith(b"\x89PNG") and same_picture(drawn, picture.read_bytes())


def same_picture(one: bytes, other: bytes) -> bool:
    images = [np.asarray(Image.open(io.BytesIO(content))) for content in (one, other)]
    return images[0].shape == images[1].shape and bool((images[0] == images[1]).all())


def test_a_picture_without_its_table_or_curves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainageError, match=r"s9\.csv"):
        redraw("s9", tmp_path)
    (tmp_path / "s9.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(BrainageError, match="no table of s9"):
        redraw("s9", tmp_path)
    (tmp_path / "fig_s1.csv").write_text("dataset,seeds,accuracy_percent\nmnist,1,2\n")
    with pytest.raises(BrainageError, match=r"fig_s1_curves\.csv"):
        redraw("fig_s1", tmp_path)


S9 = "dataset,method,follower_weight,seeds,error_percent,error_percent_half_width\n"
ROWS = ["mnist,lfnn_l,0.5,2,4.0,0.1\n", "mnist,lfnn_l,1.0,2,3.0,0.1\n"]
CURVES = "dataset,leader_fraction,seed,line,epoch,value\n"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([*ROWS, "mnist,lfnn_l,1.0,2,9.0,0.1\n"], "two rows of mnist, lfnn_l, 1.0"),
        (ROWS[:1], r"has 1 rows, s9\.md has 2"),
        ([ROWS[0], "mnist,lfnn_l,1.0,2,three,0.1\n"], "no numbers in error_percent"),
        ([], "no rows"),
        (ROWS[::-1], None),
    ],
)
def test_a_table_that_was_changed_is_not_drawn(rows, told, tmp_path: Path) -> None:
    (tmp_path / "s9.csv").write_text(S9 + "".join(rows))
    (tmp_path / "s9.md").write_text("## s9\n\nA. B.\n\n| a |\n| --- |\n| 4 |\n| 3 |\n")
    if told is None:
        assert redraw("s9", tmp_path).exists()
        return
    with pytest.raises(ConfigError, match=told):
        redraw("s9", tmp_path)


def test_a_point_of_a_curve_that_comes_twice_is_not_drawn(tmp_path: Path) -> None:
    table = "dataset,leader_fraction,seeds,accuracy_percent,accuracy_percent_half_width\n"
    (tmp_path / "fig_s1.csv").write_text(f"{table}mnist,0.5,1,90.0,\n")
    curves = f"{CURVES}mnist,0.5,0,layer 1,1,80.0\n"
    (tmp_path / "fig_s1_curves.csv").write_text(curves)
    assert redraw("fig_s1", tmp_path).exists()
    (tmp_path / "fig_s1_curves.csv").write_text(f"{curves}mnist,0.5,0,layer 1,1,20.0\n")
    with pytest.raises(ConfigError, match=r"two rows of mnist, 0\.5, 0, layer 1, 1"):
        redraw("fig_s1", tmp_path)


def test_a_finished_run_is_not_redone(tmp_path: Path, data_root: Path) -> None:
    options = small_study("s9", tmp_path, data_root)
    run_study("s9", options)
    records = sorted((tmp_path / "runs" / "s9").iterdir())
    record = json.loads(records[0].read_text())
    record["metrics"]["error_percent"] = 123.0
    records[0].write_text(json.dumps(record))
    records[1].write_text("{")
    table = run_study("s9", options).table
    again = json.loads(records[1].read_text())["metrics"]["error_percent"]
    assert table["error_percent"].tolist() == pytest.approx([(123.0 + again) / 2])
    anew = run_study("s9", replace(options, resume=False)).table
    assert anew["error_percent"].item() < 100.0


def test_finished_runs_on_other_data_are_told(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, told = small_study("s9", tmp_path, data_root), list[str]()
    monkeypatch.setattr("pipelines.study.engine.warn", told.append)
    run_study("s9", options)
    run_study("s9", options)
    assert not told
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(data_root)
    run_study("s9", replace(options, data_root=elsewhere))
    assert not told  # the same folder by another name
    other = shutil.copytree(data_root, tmp_path / "other")
    run_study("s9", replace(options, data_root=other))
    assert len(told) == 1 and str(data_root.resolve()) in told[0]


def test_finished_runs_on_files_that_were_exchanged_are_told(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[str]()
    monkeypatch.setattr("pipelines.study.engine.warn", told.append)
    root = shutil.copytree(data_root, tmp_path / "data")
    options = small_study("s9", tmp_path, root)
    run_study("s9", options)
    run_study("s9", options)
    assert not told
    for path in (root / "mnist").iterdir():
        path.write_bytes(path.read_bytes() + b"more")
    run_study("s9", options)
    assert len(told) == 1 and "--anew" in told[0]
    assert f"--config {options.config.name}" in (tmp_path / "s9.md").read_text("utf-8")


def test_methods_are_paired_with_backpropagation_image_by_image(
    tmp_path: Path, data_root: Path
) -> None:
    options = small_study("s9", tmp_path, data_root)
    assert options.config is not None
    content = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    content["choices"] = {"cut": {"K=3": {"learning.blocks": 3}}}
    content["plan"] = [{"method": ["bp"]}, {"method": ["lfnn_l"], "cut": ["K=3"]}]
    options.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    results = run_study("methods", options)
    assert len(results.curves) == 2 * 2 * SIZES["t10k"]
    base, other = results.table["minus_base"]
    errors = results.table["error_percent"]
    assert np.isnan(base) and other == pytest.approx(errors[1] - errors[0])


def test_a_run_that_diverges_is_told_and_the_study_goes_on(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = small_study("s9", tmp_path, data_root)
    assert options.config is not None
    content = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    content["seeds"] = [0]
    content["plan"] = [{"method": ["bp"]}, {"method": ["lfnn_l"], "cut": ["fast"]}]
    fast = {"training.learning_rate": 1e30, "training.max_gradient_norm": None}
    content["choices"] = {"cut": {"fast": fast}}
    options.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    told: list[str] = []
    monkeypatch.setattr("pipelines.study.engine.warn", told.append)
    table = run_study("methods", options).table
    assert table["error_percent"].notna().tolist() == [True, False]
    assert len(told) == 1 and "diverged" in told[0]
    row = (tmp_path / "methods.md").read_text(encoding="utf-8").splitlines()[-1]
    assert "lfnn_l" in row and "base" not in row


def test_images_that_were_encoded_anew_are_named(tmp_path: Path) -> None:
    cases = build_cases(load_study("methods"), quick=True)
    options = StudyOptions(tmp_path, tmp_path)
    assert describe_data(cases, options) == ""
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "train.npz").touch()
    assert describe_data(cases, options) == " Re-encoded as JPEG: cifar10."


def test_activity_is_watched_for_both_roles(tmp_path: Path, data_root: Path) -> None:
    options = small_study("fig_s4", tmp_path, data_root)
    assert options.config is not None
    content = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    content["runs"]["mnist"]["training"] |= {"epochs": 6}
    options.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    curves = run_study("fig_s4", options).curves
    assert set(curves["line"]) == {
        f"layer {n}, {r}" for n in (1, 2) for r in ("leaders", "followers")
    }
    assert set(curves["step"]) == {20} and (curves["value"] > 0).all()


def test_a_reduced_budget_says_so_everywhere(tmp_path: Path, data_root: Path) -> None:
    options = small_study("s8", tmp_path, data_root)
    assert options.config is not None
    content = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    content["quick"] = {"seeds": [0], "changes": {"training.epochs": 1}}
    options.config.write_text(yaml.safe_dump(content), encoding="utf-8")
    run_study("s8", StudyOptions(tmp_path, data_root, True, options.config, "cpu", "off"))
    text = (tmp_path / "s8.md").read_text(encoding="utf-8")
    assert "(reduced budget)" in text and "1 runs, seeds 0, 1 epochs" in text
    reduction = "reduced budget: 1 of 2 seeds, training.epochs 1 instead of 2;"
    assert reduction in text


@pytest.mark.parametrize("name", study_names())
def test_every_study_has_a_record_and_a_plan(name: str) -> None:
    whole = load_study(name)
    study = whole.model_copy(update={"seeds": whole.seeds[:1]})  # others change no other setting
    assert STUDIES[name].metrics
    assert build_cases(study, quick=True) and build_cases(study, quick=False)


def test_data_that_are_not_there_are_named(tmp_path: Path, data_root: Path) -> None:
    options = small_study("s9", tmp_path, data_root)
    with pytest.raises(BrainageError, match="no such folder"):
        run_study("s9", StudyOptions(tmp_path / "o", tmp_path, False, options.config))


def test_the_command_names_the_known_studies_and_leaves_with_code_2() -> None:
    result = CliRunner().invoke(app, ["study", "s99", "--tracking-uri", "off"])
    assert result.exit_code == 2
    assert "unknown study 's99'" in result.output and "fig_s10" in result.output


def test_every_record_has_its_yaml() -> None:
    assert sorted(STUDIES) == sorted(study_names())


def test_the_command_without_a_name_lists_all_studies() -> None:
    result = CliRunner().invoke(app, ["study"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == study_names()
    assert study_names().index("s9") < study_names().index("s10")


def test_the_rest_is_estimated_from_runs_that_were_timed() -> None:
    timed = {"seconds": 120.0}
    assert "2 of 3 runs" in describe_rest([None, None, timed])
    assert "4 min" in describe_rest([None, None, timed])
    assert "min" not in describe_rest([None, {}])
    assert "done" in describe_rest([timed])


def test_a_killed_run_goes_on_where_it_stopped(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = small_study("s9", tmp_path, data_root)
    whole = run_study("s9", replace(options, output=tmp_path / "whole")).table
    epochs: list[int] = []

    def killed(self: Schedule, state: TrainingState) -> None:
        state.save(state.tensors())
        epochs.append(len(state.history))
        if epochs == [1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Schedule, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run_study("s9", options)
    again = run_study("s9", options).table
    assert epochs == [1, 2, 1, 2]
    assert again["error_percent"].tolist() == whole["error_percent"].tolist()
    assert not any((tmp_path / "checkpoints").iterdir())


def test_train_error_is_that_of_the_images_that_trained(tmp_path: Path, data_root: Path) -> None:
    options = small_study("s7", tmp_path, data_root)
    table = run_study("s7", options).table
    assert table["train_error_percent"].between(0, 100).all()
    assert table["family"].tolist() == ["isolated"]
    assert "| class |" in (tmp_path / "s7.md").read_text(encoding="utf-8")


def test_figure_s11_has_a_dot_for_each_class(tmp_path: Path, data_root: Path) -> None:
    curves = run_study("fig_s11", small_study("fig_s11", tmp_path, data_root)).curves
    assert set(curves["line"]) == {f"class {n}" for n in range(10)}
    assert curves["value"].between(1, 4).all() and (curves["irregularity"] > 0).all()


@pytest.mark.parametrize("name", study_names())
def test_every_reduced_study_says_in_what_it_differs(name: str) -> None:
    study = load_study(name)
    told = describe_reduction(study)
    assert told or study.quick == QuickBudget()
    assert all(f"{key} {value} instead of" in told for key, value in study.quick.changes.items())
