"""Soak the page's predictor, run 1,000 scans through the commands, split a table of 100,000 rows.

    python -m tools.load.campaign --output docs/benchmarks/load

Small versions are slow tests (tests/test_load.py). Writes CSV files, pictures and a table.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from brainage.cohorts.cohort import read_cohort
from brainage.cohorts.phantom import write_phantom_cohort
from brainage.cohorts.splits import make_folds, make_split
from brainage.config import SplitConfig
from brainage.model.released import RELEASED_FOLDER
from brainage.plotting.canvas import BLUE, ORANGE, build_figure, save_figure
from brainage.sandbox.parent import Limits
from brainage.serving.service import Service
from brainage.serving.settings import ServerLimits
from brainage.workflows.results import write_table
from tools.load.measure import growth_mb, private_mb, run_watched

PROBE_EVERY_S = 0.1
GRID = ["--set", "preprocessing.spacing_mm=8", "--set", "preprocessing.shape=[22,26,22]"]
GRID += ["--set", "network.arguments.channels=[4,8]"]


def soak(scans: int, model: Path, folder: Path, most_s: float = np.inf) -> pd.DataFrame:
    """Give scans to the page's service, so fast that its predictor never rests and is not replaced.

    Returns
    -------
    pandas.DataFrame
        A row for each scan: `seconds`, `predictor_mb` (least private memory while it was at work:
        what those before it left), `server_mb` and `pid` of the predictor. Fewer than asked for,
        once `most_s` are over.
    """
    table = pd.read_csv(write_phantom_cohort(folder / "soak", subjects=5, seed=11))
    contents = [(folder / "soak" / path).read_bytes() for path in table["path"]]
    argument = {"model": str(model), "model_name": "soak", "label": "scan", "age_years": 50.0}
    limits = ServerLimits(predictions=1, child=Limits(6144, 300.0))
    service, rows, start = Service(limits, lambda: model), [], time.monotonic()
    jobs = [service.submit(contents[n % 5], argument, _always) for n in range(min(2, scans))]
    try:
        for number in range(scans):
            if time.monotonic() - start > most_s:
                break
            # One is always waiting: a predictor that nobody waits for is replaced by a fresh one.
            following = number + len(jobs)
            if following < scans:
                jobs.append(service.submit(contents[following % 5], argument, _always))
            job = jobs.pop(0)
            pid, mb = 0, np.nan
            while not job.finished:
                if pid := _predictor(service) or pid:
                    mb = np.fmin(mb, private_mb(pid))
                time.sleep(PROBE_EVERY_S)
            if job.state != "done":
                raise RuntimeError(f"scan {number}: {job.state} {job.reason}")
            seconds = sum(taken for _, taken in job.seconds)
            rows.append((number, seconds, mb, private_mb(os.getpid()), pid))
            if number % 10 == 0:
                print(f"soak: {number} scans, predictor {mb:.0f} MB", flush=True)
    finally:
        service.close()
    return pd.DataFrame(rows, columns=["scan", "seconds", "predictor_mb", "server_mb", "pid"])


def _always() -> bool:
    return True


def _predictor(service: Service) -> int:
    """Process of the predictor at work; 0 between two scans."""
    children = list(service._running.values())
    process = children[0]._process if children else None
    return process.pid if process else 0


def write_tiny_cohort(folder: Path, rows: int, seed: int = 3) -> Path:
    """Cohort of `rows` different tiny scans: 20 phantoms with noise of their own."""
    import nibabel as nib

    base = pd.read_csv(write_phantom_cohort(folder, subjects=20, seed=seed))
    rng, made = np.random.default_rng(seed), []
    images = [nib.load(folder / path) for path in base["path"]]
    volumes = [np.asarray(image.dataobj).astype(np.float32) for image in images]
    for number in range(rows):
        of = number % len(base)
        noisy = volumes[of] + (volumes[of] > 0) * rng.normal(0, 4, volumes[of].shape)
        path = folder / "tiny" / f"{number}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(noisy.clip(0).astype(np.int16), images[of].affine), path)
        age = round(float(base["age_years"][of] + rng.normal(0, 0.5)), 2)
        made.append(
            {"scan_id": f"sub-{number:05d}", "age_years": age, "path": f"tiny/{number}.nii.gz"}
        )
    pd.DataFrame(made).to_csv(folder / "cohort.csv", index=False)
    return folder / "cohort.csv"


def run_cohort(rows: int, folder: Path) -> pd.DataFrame:
    """Run a cohort of tiny scans through the commands.

    Returns
    -------
    pandas.DataFrame
        `command`, `seconds`, `mb`: private memory of the command and its children over time.
    """
    source = write_tiny_cohort(folder / f"cohort-{rows}", rows)
    work, at = folder / f"work-{rows}", ["--cache", str(folder / f"cache-{rows}")]
    prepared = ["--cohort", str(work / "prepared" / "cohort.csv"), *at]
    of_model = ["--model", str(work / "model")]
    spacing = ["--spacing-mm", "4"]
    train = ["--preset", "phantom", "--epochs", "2", "--tracking-uri", "off", *GRID]
    train += ["--baselines", "constant,linear"]
    commands = {
        "prepare": ["--cohort", str(source), *at, *spacing, "--output", str(work / "prepared")],
        "train": [*prepared, *train, "--output", str(work / "model")],
        "predict": [*prepared, *of_model, "--output", str(work / "predicted" / "predictions.csv")],
        "evaluate": [
            "--predictions", str(work / "predicted" / "predictions.csv"),
            "--output", str(work / "evaluation"),
        ],
    }  # fmt: skip
    tables = []
    for name, arguments in commands.items():
        command = [sys.executable, "-m", "brainage.cli.main", name, *arguments]
        curve, status = run_watched(command, folder / "log.txt", cwd=Path(__file__).parents[2])
        if status:
            said = (folder / "log.txt").read_text(errors="replace")[-1000:]
            raise RuntimeError(f"{name}: exit code {status}: {said}")
        tables.append(pd.DataFrame(curve, columns=["seconds", "mb"]).assign(command=name))
        print(f"{rows} rows: {name} {curve[-1][0]:.0f} s", flush=True)
    return pd.concat(tables).assign(rows=rows)


def time_table(rows: int, folder: Path) -> pd.DataFrame:
    """Seconds to read, split and fold a table of `rows` scans, two of each person."""
    rng = np.random.default_rng(0)
    (folder / "scan.nii.gz").touch()
    subjects = [f"sub-{number // 2:06d}" for number in range(rows)]
    pd.DataFrame(
        {
            "scan_id": [f"{name}_ses-{number % 2}" for number, name in enumerate(subjects)],
            "subject_id": subjects,
            "age": rng.uniform(18, 90, rows).round(2),
            "sex": rng.choice(["F", "M"], rows),
            "site": rng.choice(["a", "b", "c"], rows),
            "CDR": rng.choice(["0", "0.5", ""], rows),
            "path": "scan.nii.gz",
        }
    ).to_csv(folder / "large.csv", index=False)
    seconds: dict[str, float] = {}
    with _timed(seconds, "read and filter"):
        where = "CDR != CDR or CDR == 0"
        cohort = read_cohort(folder / "large.csv", where=where).cohort
    with _timed(seconds, "hash"):
        cohort.content_hash()
    with _timed(seconds, "split"):
        make_split(cohort, SplitConfig())
    with _timed(seconds, "5 folds"):
        make_folds(cohort, 5, SplitConfig())
    return pd.DataFrame([{"rows": rows, "kept": len(cohort), **seconds}]).round(2)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    seconds[name] = time.process_time() - start


def draw_soak(table: pd.DataFrame, path: Path) -> None:
    """Draw private memory after each scan."""
    caption = f"{len(table)} scans through one process; least while a scan is at work"
    title = "Private memory of the page's predictor"
    figure, (axes,) = build_figure((1, 1), (7, 4), title, caption, synthetic=True)
    axes.plot(table["scan"], table["predictor_mb"], color=BLUE, label="predictor")
    axes.plot(table["scan"], table["server_mb"], color=ORANGE, label="server")
    axes.set(xlabel="scans done", ylabel="private memory, MB", ylim=(0, None))
    axes.legend(frameon=False)
    save_figure(figure, path)


def draw_cohort(table: pd.DataFrame, path: Path) -> None:
    """Draw memory of each command over time."""
    commands = list(dict.fromkeys(table["command"]))
    title = "Private memory of a command and its children"
    caption = f"{', '.join(map(str, table['rows'].unique()))} tiny phantoms"
    figure, panels = build_figure((2, 2), (9, 6), title, caption, synthetic=True)
    for axes, name in zip(panels, commands, strict=True):
        for (rows, part), color in zip(
            table[table["command"] == name].groupby("rows"), (ORANGE, BLUE), strict=False
        ):
            axes.plot(part["seconds"], part["mb"], color=color, label=f"{rows} rows")
        axes.set(title=name, xlabel="seconds", ylabel="MB", ylim=(0, None))
        axes.legend(frameon=False)
    save_figure(figure, path)


def describe(soaked: pd.DataFrame) -> str:
    """One line on the soak."""
    values = soaked["predictor_mb"].tolist()
    warm_up = min(20, len(values) // 3)
    server = soaked["server_mb"]
    return (
        f"{len(soaked)} scans, {soaked['pid'].nunique()} process, {values[warm_up]:.0f} MB after "
        f"{warm_up} scans, {values[-1]:.0f} MB at the end, trend "
        f"{growth_mb(values, warm_up):+.1f} MB; "
        f"server {server.iloc[warm_up]:.0f} to {server.iloc[-1]:.0f} MB"
    )


def main() -> None:
    """Run the campaign, or a part of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("load"))
    parser.add_argument("--only", choices=("soak", "cohort", "table"), action="append")
    parser.add_argument("--scans", type=int, default=200, help="of the soak")
    parser.add_argument("--minutes", type=float, default=np.inf, help="most, of the soak")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1000], help="of the cohorts")
    parser.add_argument("--model", type=Path, default=RELEASED_FOLDER)
    options = parser.parse_args()
    parts = options.only or ["soak", "cohort", "table"]
    with TemporaryDirectory(prefix="brainage-load-") as name:
        folder = Path(name)
        if "table" in parts:
            table = pd.concat([time_table(rows, folder) for rows in (10_000, 100_000)])
            write_table(table, options.output / "table.csv")
            print(table.to_string(index=False), flush=True)
        if "cohort" in parts:
            curves = pd.concat([run_cohort(rows, folder) for rows in options.rows])
            write_table(curves.round(2), options.output / "cohort.csv")
            draw_cohort(curves, options.output / "cohort.png")
            print(curves.groupby(["command", "rows"])["mb"].max(), flush=True)
        if "soak" in parts:
            soaked = soak(options.scans, options.model, folder, 60 * options.minutes)
            write_table(soaked.round(2), options.output / "soak.csv")
            draw_soak(soaked, options.output / "soak.png")
            print(describe(soaked), flush=True)


if __name__ == "__main__":
    main()
