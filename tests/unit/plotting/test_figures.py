"""Pictures: written whole, saying what they show, drawn without global state."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from brainage.errors import CohortError
from brainage.evaluation.comparison import comparison_table, summarise_comparison
from brainage.plotting import canvas, figures

AGE_PICTURES = (
    figures.plot_predicted_vs_true,
    figures.plot_gap_vs_age,
    figures.plot_error_by_age_band,
)


@pytest.fixture
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    age = random.uniform(18, 95, 24)
    subjects = [f"sub-{index // 2}" for index in range(24)]
    return pd.DataFrame(
        {
            "age_years": age,
            "predicted_age_years": age + random.normal(0, 6, 24),
            "subject_id": subjects,
        }
    )


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Figures instead of files."""
    seen: list[Figure] = []

    def keep(figure, path):
        seen.append(figure)
        return path

    monkeypatch.setattr(figures, "save_figure", keep)
    return seen


def words(figure: Figure) -> str:
    panels = figure.get_axes()
    texts = [axes.get_xlabel() + "\n" + axes.get_ylabel() for axes in panels]
    notes = [text.get_text() for axes in panels for text in axes.texts]
    return "\n".join([figure.get_suptitle(), figure.get_supxlabel(), *texts, *notes])


@pytest.mark.parametrize("plot", AGE_PICTURES)
def test_age_picture_is_a_png_at_its_path(plot, table, tmp_path):
    path = tmp_path / "new" / "picture.png"
    assert plot(table, path) == path
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("plot", AGE_PICTURES)
def test_age_picture_says_n_mae_and_units(plot, table, tmp_path, drawn):
    plot(table, tmp_path / "a.png")
    mae = (table["predicted_age_years"] - table["age_years"]).abs().mean()
    assert f"n = 24 scans, MAE {mae:.2f} years" in words(drawn[0])
    assert words(drawn[0]).count("(years)") == 2
    assert canvas.SYNTHETIC_LABEL not in words(drawn[0])


def test_phantoms_are_labelled_on_every_picture(table, tmp_path, drawn):
    for plot in AGE_PICTURES:
        plot(table, tmp_path / "a.png", synthetic=True)
    figures.plot_training_curves([{"epoch": 1}], tmp_path / "a.png", synthetic=True)
    figures.plot_comparison(comparison(), tmp_path / "a.png", synthetic=True)
    assert len(drawn) == 5
    assert all(canvas.SYNTHETIC_LABEL in words(figure) for figure in drawn)


@pytest.mark.parametrize("plot", AGE_PICTURES)
def test_one_scan_is_enough(plot, table, tmp_path, recwarn):
    assert plot(table.head(1), tmp_path / "a.png").exists()
    assert not recwarn.list


def test_empty_table_and_no_epochs_are_refused(table, tmp_path):
    with pytest.raises(CohortError, match="at least one scan"):
        figures.plot_gap_vs_age(table.head(0), tmp_path / "a.png")
    with pytest.raises(CohortError, match="at least one epoch"):
        figures.plot_training_curves([], tmp_path / "a.png")


def test_same_table_gives_the_same_bytes(table, tmp_path):
    first, again = (
        figures.plot_error_by_age_band(table, tmp_path / name).read_bytes() for name in "ab"
    )
    assert first == again


def test_training_curves_draw_every_block_in_order(tmp_path, drawn):
    history = [
        {"epoch": epoch, "train_loss": 1.0, "val_mae_years": 9.0 - epoch}
        | {f"block_{block}_val_mae_years": 10.0 for block in range(11)}
        for epoch in (2, 1)
    ]
    figures.plot_training_curves(history, tmp_path / "a.png")
    losses, ages = drawn[0].get_axes()
    labels = [line.get_label() for line in ages.lines]
    assert labels == [*(f"block {block}" for block in range(11)), "network"]
    assert list(ages.lines[-1].get_xdata()) == [1, 2]
    assert len(losses.lines) == 1
    assert "best validation MAE 7.00 years in epoch 2" in words(drawn[0])


def runs(methods: list[str], **changes) -> pd.DataFrame:
    row = {"schedule": "sequential", "seed": 0, "fold": 0, "mae_years": 5.0}
    costs = {"seconds_per_epoch": 2.0, "seconds_to_target": 20.0, "peak_memory_mb": 900.0}
    seeds = [{"method": method, "seed": seed} for method in methods for seed in range(3)]
    return comparison_table([row | costs | changes | seed for seed in seeds])


def comparison(**changes) -> pd.DataFrame:
    table = runs(["bp", "lfnn_l"], **changes)
    scans = pd.DataFrame({"scan_id": ["a", "b"], "subject_id": ["a", "b"], "age_years": 50.0})
    predictions = table[["method", "seed", "fold"]].merge(scans, how="cross")
    return summarise_comparison(table, predictions.assign(predicted_age_years=[51.0, 54.0] * 6))


def test_comparison_has_a_panel_for_each_question(tmp_path, drawn):
    figures.plot_comparison(comparison(), tmp_path / "a.png", runs=runs(["bp"]))
    panels = drawn[0].get_axes()
    assert [axes.get_xlabel() for axes in panels[:5]] == [p[2] for p in figures.COMPARISON_PANELS]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["bp", "lfnn_l"]
    seeds = [len(dots.get_offsets()) for dots in panels[2].collections if len(dots.get_offsets())]
    assert 3 in seeds
    assert "n = 2 scans" in words(drawn[0])


def test_comparison_says_so_when_the_target_was_not_reached(tmp_path, drawn):
    figures.plot_comparison(comparison(seconds_to_target=None), tmp_path / "a.png")
    assert "not reached" in words(drawn[0])


def test_comparison_is_written_as_png(tmp_path):
    path = figures.plot_comparison(comparison(), tmp_path / "comparison.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_figures_leave_pyplot_alone():
    code = "import sys, brainage.plotting.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
