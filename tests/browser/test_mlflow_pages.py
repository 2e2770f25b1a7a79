"""MLflow's own pages in a real browser: both methods are there at first sight.

Set BRAINAGE_SCREENSHOTS to a folder to keep what the browser shows.
"""

import itertools
import os
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest

from brainage.tracking import (
    COMPARISON_NOTE,
    Tracker,
    final_metrics,
    log_overview,
    run_name,
    run_tags,
)
from tests.browser.pages import ANSWER_MS, show_mlflow
from tests.servers import run_mlflow, run_postgres

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, tmp_path_factory):
    """Address of a server on either database with two methods and two seeds.

    BRAINAGE_MLFLOW_DB shows the runs of a database of yours instead.
    """
    folder = tmp_path_factory.mktemp("server")
    given = os.environ.get("BRAINAGE_MLFLOW_DB")
    if given and request.param != "sqlite":
        pytest.skip("BRAINAGE_MLFLOW_DB is shown once")
    with ExitStack() as stack:
        backend = f"sqlite:///{given or folder / 'mlflow.db'}"
        if request.param == "postgresql":
            backend = stack.enter_context(run_postgres())
        running = stack.enter_context(run_mlflow(backend, folder))
        if not given:
            log_comparison(Tracker(folder, running.uri))
        yield running.uri


def log_comparison(tracker: Tracker) -> None:
    rows, histories = [], []
    with tracker.start_run("compare bp, lfnn_l", note=COMPARISON_NOTE) as parent:
        for (method, start), seed in itertools.product((("bp", 9.0), ("lfnn_l", 8.0)), (0, 1)):
            tags = run_tags(
                method=method,
                network="cnn3d_light",
                blocks=4,
                leader_fraction=0.5,
                seed=seed,
                cohort_hash="0" * 8,
            )
            epochs = range(1, 6)
            history = pd.DataFrame({"epoch": epochs, "val_mae_years": [start / n for n in epochs]})
            with tracker.start_run(run_name(method, seed), tags=tags, parent=parent) as run:
                for epoch, error in zip(epochs, history["val_mae_years"], strict=True):
                    run.log_metrics({"val_mae_years": error}, step=epoch)
                scores = {"mae_years": start / 5, "rmse_years": start / 4, "r2": 0.8}
                run.log_metrics(final_metrics(scores, seconds_per_epoch=start))
            costs = {"seconds_per_epoch": start, "seconds_to_target": 1, "peak_memory_mb": 1}
            rows.append({"method": method, "mae_years": start / 5, **costs})
            histories.append(history.assign(method=method))
        log_overview(parent, pd.DataFrame(rows), pd.concat(histories))


@pytest.fixture(scope="module")
def page(browser):
    made = browser.new_page(viewport={"width": 1400, "height": 2400})
    made.set_default_timeout(ANSWER_MS)
    yield made
    made.close()


def keep(page, name: str) -> None:
    if folder := os.environ.get("BRAINAGE_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / name))


def find_runs(server: str) -> tuple[str, list[str]]:
    from mlflow import MlflowClient

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("brainage")
    # One of each method: more would not be seen side by side.
    runs = client.search_runs([experiment.experiment_id], "attributes.run_name LIKE '%seed 0%'")
    return experiment.experiment_id, [run.info.run_id for run in runs]


def test_chart_page_shows_both_methods_at_first_sight(server, page):
    experiment, _ = find_runs(server)
    names = ("peak_memory_mb", "seconds_per_epoch", "test_mae_years", "val_mae_years")
    texts = tuple(f"{name}/{method}" for name in names for method in ("bp", "lfnn_l"))
    show_mlflow(page, f"{server}/#/experiments/{experiment}/runs?compareRunsMode=CHART", texts)


def test_compare_page_shows_both_methods(server, page):
    experiment, runs = find_runs(server)
    listed = ",".join(f'"{run}"' for run in runs)
    url = f'{server}/#/compare-runs?runs=[{listed}]&experiments=["{experiment}"]'
    show_mlflow(page, url, ("lfnn_l seed 0", "bp seed 0", "test_mae_years"))
    keep(page, "mlflow_compare.png")
