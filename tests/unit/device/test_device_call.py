"""The whole command on a CPU: it runs, goes on where it was, and keeps to its minutes."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipelines.device import yardsticks
from pipelines.device.__main__ import main
from pipelines.device.budget import Budget
from pipelines.device.call import describe_rest
from pipelines.device.cells import Cell, measure
from pipelines.device.report import images_table
from pipelines.device.rows import MEMORY, OK, Rows, describe_failure
from pipelines.device.speed import NETWORKS, WAYS, SpeedPart, build_cells
from pipelines.device.training import DeviceTraining
from pipelines.device.trainings import build_plan, published
from pipelines.device.yardsticks import ImagesPart, Together, load_on_device

CPU = torch.device("cpu")


class Clock:
    """Seconds that pass with every look."""

    def __init__(self, step_s: float = 1.0) -> None:
        self.now, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder cifar10 of bright and dark noise, as JPEG in npz."""
    root = tmp_path_factory.mktemp("data")
    (root / "cifar10").mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 80), ("test", 30)):
        labels, encoded = np.arange(count) % 10, []
        for label in labels:
            pixels = rng.integers(20 * label, 20 * label + 60, (32, 32, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG")
            encoded.append(np.frombuffer(buffer.getvalue(), np.uint8))
        offsets = np.cumsum([0, *map(len, encoded)])
        np.savez(
            root / "cifar10" / f"{part}.npz",
            jpeg=np.concatenate(encoded),
            offsets=offsets,
            labels=labels,
        )
    return root


def quick(data_root: Path, output: Path, *more: str) -> int:
    options = ["--data", str(data_root), "--output", str(output), "--minutes", "60"]
    return main([*options, "--device", "cpu", "--quick", *more])


def make_part(data_root: Path, output: Path, plan_size: int = 3) -> ImagesPart:
    plan = build_plan(seed=0, quick=True)[:plan_size]
    rows = Rows(output / "rows" / "images.jsonl")
    return ImagesPart(
        plan, rows, output, CPU, lambda: load_on_device(plan[0], data_root, CPU, True)
    )


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Trainings that were placed on the device."""
    names = list[str]()

    class Watched(DeviceTraining):
        def __init__(self, config: object, data: object, device: object, path: Path, key: str):
            names.append(key)
            super().__init__(config, data, device, path, key)  # type: ignore[arg-type]

    monkeypatch.setattr(yardsticks, "DeviceTraining", Watched)
    return iter([names])


def test_rehearsal_writes_everything_and_a_second_call_runs_nothing_anew(
    data_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], begun: Iterator[list[str]]
):
    assert quick(data_root, tmp_path) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"device.md", "machine.json", "images.csv", "images.png", "speed.csv"} <= names
    assert {"speed.png", "memory.png", "vit_stages.csv", "vit_projection.csv"} <= names
    assert not list((tmp_path / "checkpoints").iterdir())
    facts = json.loads((tmp_path / "machine.json").read_text())
    assert {"torch", "cuda", "commit", "command", "device"} <= set(facts)
    assert "JPEG" in (tmp_path / "device.md").read_text()
    assert set(pd.read_csv(tmp_path / "images.csv")["status"]) == {OK}
    assert "Trainings at once" in (tmp_path / "device.md").read_text()
    assert set(pd.read_csv(tmp_path / "speed.csv")["status"]) == {OK}
    assert len(pd.read_csv(tmp_path / "vit_stages.csv")) == 17
    before = [(tmp_path / "rows" / f"{n}.jsonl").read_bytes() for n in ("images", "speed", "vit")]
    started = next(begun)
    assert len(started) == len(set(started)) == 6
    capfd.readouterr()
    assert quick(data_root, tmp_path) == 0
    after = [(tmp_path / "rows" / f"{n}.jsonl").read_bytes() for n in ("images", "speed", "vit")]
    assert before == after and len(started) == 6
    assert "Trainings at once" in (tmp_path / "device.md").read_text()
    assert capfd.readouterr().out.count("left: images done, speed done, vit done") == 2


def test_time_that_is_over_leaves_a_checkpoint_and_the_next_call_goes_on(
    data_root: Path, tmp_path: Path
):
    whole = make_part(data_root, tmp_path / "whole")
    whole.run(Budget.of(1e9, Clock()))
    # Four looks at the clock: the first training begins, takes its first epoch, and no more.
    part = make_part(data_root, tmp_path / "part")
    part.run(Budget.of(4.0, Clock()))
    assert part.rows.table()["epochs_done"].tolist() == [1]
    assert part.rows.table()["status"].tolist() == [yardsticks.UNFINISHED]
    assert len(list((tmp_path / "part" / "checkpoints").iterdir())) == 1
    again = make_part(data_root, tmp_path / "part")
    assert len(again.todo()) == 3 and again.left_s() > 0
    again.run(Budget.of(1e9, Clock()))
    columns = ["network", "how", "error_percent", "train_loss"]
    expected, found = (p.rows.table()[columns] for p in (whole, again))
    pd.testing.assert_frame_equal(expected, found)


def test_no_time_means_no_work(data_root: Path, tmp_path: Path):
    part = make_part(data_root, tmp_path)
    part.run(Budget.of(0.0, Clock()))
    assert not len(part.rows)
    cells = SpeedPart(build_cells(quick=True), Rows(tmp_path / "speed.jsonl"), CPU)
    cells.run(Budget.of(5.0, Clock()))
    assert not len(cells.rows)
    assert describe_rest({"images": part, "speed": cells}) == (
        "left: images 3 (not timed yet), speed 14 (not timed yet)"
    )


def test_every_part_has_its_share_of_the_time():
    clock = Clock(0.0)
    budget = Budget.of(100.0, clock)
    images_end = budget.until(0.6, 100.0)
    clock.now = 59.0
    assert images_end.allows(1.0) and not images_end.allows(2.0)
    clock.now = 61.0
    assert not images_end.allows(0.0) and budget.until(0.9, 100.0).left() == 29.0


def test_an_interrupt_keeps_what_was_trained(data_root: Path, tmp_path: Path):
    part = make_part(data_root, tmp_path, 1)

    class Interrupted(Clock):
        def __call__(self) -> float:
            if super().__call__() > 4:
                raise KeyboardInterrupt
            return self.now

    with pytest.raises(KeyboardInterrupt):
        part.run(Budget.of(1e9, Interrupted()))
    assert part.rows.table()["epochs_done"].tolist() == [1]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_out_of_memory_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(cell: Cell, device: torch.device) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("pipelines.device.speed.measure", refuse)
    part = SpeedPart(build_cells(quick=True)[:2], Rows(tmp_path / "speed.jsonl"), CPU)
    part.run(Budget.of(1e9, Clock()))
    assert part.rows.table()["status"].tolist() == [MEMORY, MEMORY]
    assert part.todo() == []


def test_a_failure_is_tried_again(tmp_path: Path):
    rows = Rows(tmp_path / "rows.jsonl")
    rows.add("a", {"status": describe_failure(RuntimeError("no compiler\nmore"))})
    assert rows.get("a") == {"key": "a", "status": "failed: RuntimeError: no compiler"}
    assert not rows.is_done("a")
    (tmp_path / "rows.jsonl").write_text('{"key": "b", "status": "ok"}\n{"key": "c", "sta')
    assert Rows(tmp_path / "rows.jsonl").is_done("b")
    assert len(Rows(tmp_path / "rows.jsonl")) == 1


def test_more_trainings_at_once_only_where_it_pays():
    together = Together()
    assert together.width == 1
    together.tell([1.0], 1.0)
    assert together.width == 2
    together.tell([1.0, 1.0], 1.2)
    assert together.width == 4
    together.tell([1.0] * 4, 2.4)
    assert together.width == 2
    sliced = Together()
    sliced.tell([1.0], 1.0)
    sliced.tell([1.0, 1.0], 2.1)
    assert sliced.width == 1


@pytest.mark.parametrize(("seconds", "expected"), [(250.0, False), (350.0, True)])
def test_one_more_training_begins_only_if_all_end_in_time(
    tmp_path: Path, seconds: float, expected: bool
):
    part = make_part(tmp_path, tmp_path)
    part.together.gains |= {1: 1.0, 2: 1.5}
    going = [SimpleNamespace(alone_s=2.0, epochs=100, epochs_done=done) for done in (0, 50)]
    # 200 and 100 seconds are left of them, and another takes 200: 333 at a gain of 1.5.
    assert part._has_room(going, Budget.of(seconds, Clock(0.0))) is expected  # type: ignore[arg-type]
    assert part._has_room([], Budget.of(0.0, Clock(0.0)))


def test_published_errors_stand_beside_ours():
    rows = pd.DataFrame({"key": "ab", "network": "resnet32", "how": ["bp", "lfnn_l K=2"]}, [0, 1])
    table = images_table(rows.assign(how=["infopro_contrast K=4", "lfnn_l K=2"]))
    assert table["error_percent_published"][0] == 8.58
    assert np.isnan(table["error_percent_published"][1])
    assert published("resnet110", "bp") == 6.50


def test_plan_begins_with_what_tells_most():
    names = [(t.network, t.how) for t in build_plan(seed=0)]
    assert names[:3] == [("resnet32", "bp"), ("resnet32", "greedy K=2"), ("resnet32", "dgl K=2")]
    assert names[21] == ("resnet110", "bp")
    assert len(names) == len(set(names)) == 42
    assert {t.config.training.epochs for t in build_plan(seed=0)} == {160}
    assert {t.config.training.epochs for t in build_plan(seed=0, epochs=7)} == {7}
    assert "7 epochs" in build_plan(seed=0, epochs=7)[0].name


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["--part", "images,time"], "--part"), (["--data", "/nowhere"], "no such folder")],
)
def test_bad_input_is_one_line(
    options: list[str],
    expected: str,
    data_root: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    assert quick(data_root, tmp_path, *options) == 2
    error = capfd.readouterr().err
    assert expected in error and error.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "no cuDNN"])
@pytest.mark.parametrize("how", [*WAYS, "BP compiled"])
def test_every_way_runs_on_a_gpu(how: str, layout: str):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for network in NETWORKS:
        cell = Cell(network, (16, 16, 16), "bfloat16", how, layout, narrow=True)
        row = measure(cell, torch.device("cuda"))
        assert row["step_ms"] > 0 and row["peak_memory_mb"] > 0
        assert row["cuda_graph"] is ("graph" in how)


@pytest.mark.gpu
def test_the_rehearsal_runs_on_a_gpu(data_root: Path, tmp_path: Path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert quick(data_root, tmp_path, "--device", "cuda") == 0
    assert set(pd.read_csv(tmp_path / "images.csv")["status"]) == {OK}
    assert pd.read_csv(tmp_path / "images.csv")["cuda_graph"].all()
