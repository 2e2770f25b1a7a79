"""What a real `brainage compare` and `register` leave in MLflow, on our page and on MLflow's own.

Renew the pictures of the docs; none shows a real person:
BRAINAGE_SCREENSHOTS=docs/pictures pytest -m slow tests/browser/test_pictures.py
With BRAINAGE_COMPARISON, the output folder of a comparison that is logged at MLFLOW_TRACKING_URI,
no other is made.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from brainage.cohorts.sample import SAMPLE_WORDS
from page_parts.progress import STAGE_WORDS
from tests.browser.pages import (
    AGE,
    ANSWER_MS,
    CANVAS,
    go_to,
    keep,
    open_list,
    run_app,
    show_mlflow,
    wait_for,
    wait_for_answer,
)
from tests.servers import run_mlflow

pytestmark = pytest.mark.slow
CHAMPION = re.compile(r"brainage version \d+ \(champion\)")
ROOT = Path(__file__).parents[2]


def call(folder, *arguments, **environment):
    command = [sys.executable, "-m", "brainage.cli.main", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    subprocess.run(command, cwd=folder, env=variables, check=True)


@pytest.fixture(scope="module")
def tracked(phantom_cohort, tmp_path_factory):
    """MLflow's address, and a comparison of which one lfnn_l network is the champion."""
    if given := os.environ.get("BRAINAGE_COMPARISON"):
        uri = os.environ["MLFLOW_TRACKING_URI"]
        register(Path(given), uri)
        yield uri, Path(given)
        return
    folder = tmp_path_factory.mktemp("tracked")
    with run_mlflow(f"sqlite:///{folder / 'mlflow.db'}", folder) as server:
        compared = ["compare", "--cohort", str(phantom_cohort), "--preset", "phantom"]
        compared += ["--seeds", "2", "--folds", "2", "--epochs", "6", "--output", "comparison"]
        call(folder, *compared, MLFLOW_TRACKING_URI=server.uri)
        register(folder / "comparison", server.uri)
        yield server.uri, folder / "comparison"


def register(comparison, uri):
    model = comparison / "runs" / "lfnn_l-seed0-fold0"
    call(comparison, "register", "--model", str(model), MLFLOW_TRACKING_URI=uri)


@pytest.fixture(scope="module")
def server(tracked, tmp_path_factory):
    """The page beside that tracker, with no model but the released one and the champion."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "models").mkdir()
    places = {"MLFLOW_TRACKING_URI": tracked[0], "BRAINAGE_CACHE": str(folder / "cache")}
    with run_app(folder / "models", folder, **places) as running:
        yield running


def test_sample_from_upload_to_report(page):
    page.get_by_role("button", name="Try the built-in sample").wait_for()
    keep(page, "app_upload.png")
    page.get_by_text("Model, map and report").click()
    open_list(page, "Model")
    page.get_by_role("option").filter(has_not_text="champion").first.click()
    page.get_by_role("button", name="Try the built-in sample").click()
    # Whichever stage is at work: on a fast machine one may come and go between two looks.
    at_work = page.locator("strong").filter(has_text=re.compile("|".join(STAGE_WORDS.values())))
    at_work.wait_for()
    keep(page, "app_progress.png")
    wait_for_answer(page)
    canvas = page.locator(CANVAS)
    canvas.wait_for()
    page.wait_for_timeout(2000)
    assert page.get_by_text(SAMPLE_WORDS).is_visible()
    page.set_viewport_size({"width": 1280, "height": 900})
    keep(page, "app_result.png")
    assert page.foreign == []


def test_champion_is_offered_and_shown_with_its_quality(page):
    def found():
        page.reload()
        go_to(page, "Models")
        page.wait_for_timeout(2000)
        return page.get_by_text(CHAMPION).count()

    wait_for(found, 300)
    page.get_by_role("heading", name="For whom is it good?").wait_for()
    assert page.foreign == []
    box = page.get_by_role("combobox", name="Show")
    box.click()
    page.get_by_role("option").nth(1).click()
    page.get_by_role("heading", name="Calibration").wait_for()
    page.wait_for_timeout(3000)
    keep(page, "app_models.png", whole=True)


def test_champion_predicts(page):
    page.get_by_role("button", name="Try the built-in sample").click()
    wait_for_answer(page)
    page.locator(AGE).wait_for()
    page.get_by_text("Model and limits").click()
    page.get_by_text(CHAMPION).first.wait_for()


def test_compare_page_shows_the_numbers_of_the_command(page, tracked):
    go_to(page, "Compare methods")
    page.get_by_role("heading", name="How fast does each learn?").wait_for()
    page.wait_for_timeout(3000)
    lines = (tracked[1] / "comparison.md").read_text().splitlines()
    written = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    rows = page.locator("table").first.locator("tr").all()
    shown = [row.locator("th, td").all_inner_texts() for row in rows]
    assert shown == [written[0], *written[2:]]
    charts = page.locator("[data-testid=stVegaLiteChart] svg[aria-label], svg.marks")
    assert charts.count() >= 4
    keep(page, "app_compare.png", whole=True)
    page.get_by_text("Group by seed").click()
    page.get_by_text("seed", exact=True).first.wait_for()
    link = page.get_by_role("link", name="Open this comparison in MLflow").get_attribute("href")
    assert link.startswith(f"{tracked[0]}/#/experiments/")
    assert page.foreign == []


def keep_charts(browser, uri, experiment, charts, name, height):
    """Open the chart page of an experiment, wait for charts, and keep what is seen."""
    from mlflow import MlflowClient

    found = MlflowClient(uri).get_experiment_by_name(experiment)
    page = browser.new_page(viewport={"width": 1400, "height": height})
    page.set_default_timeout(ANSWER_MS)
    address = f"{uri}/#/experiments/{found.experiment_id}/runs?compareRunsMode=CHART"
    show_mlflow(page, address, charts)
    if folder := os.environ.get("BRAINAGE_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / name))
    page.close()


def test_chart_page_of_mlflow_shows_both_methods_at_first_sight(browser, tracked):
    names = ("peak_memory_mb", "seconds_per_epoch", "test_mae_years", "val_mae_years")
    charts = tuple(f"{name}/{method}" for name in names for method in ("bp", "lfnn_l"))
    keep_charts(browser, tracked[0], "brainage", charts, "mlflow_chart.png", 2400)


def test_chart_page_of_mlflow_shows_error_time_and_memory_of_a_race(
    browser, tracked, phantom_cohort, tmp_path
):
    race = ["speed", "--plan", "brain_age", "--quick", "--cohort", str(phantom_cohort)]
    call(tmp_path, *race, "--output", "race", MLFLOW_TRACKING_URI=tracked[0])
    names = ("peak_memory_mb", "seconds_in_all", "test_mae_years", "val_mae_years")
    candidates = ("bp 30 epochs", "lfnn_l 24 epochs")
    charts = tuple(f"{name}/{each}" for name in names for each in candidates)
    keep_charts(browser, tracked[0], "speed", charts, "mlflow_speed.png", 7000)
