"""Draw a study's picture from its tables: no run is needed.

``python -m pipelines.study.redraw NAME --folder STUDY`` reads NAME.csv, NAME_curves.csv and the
heading of NAME.md, and writes NAME.png.
"""

import argparse
import sys
import textwrap
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from brainage.errors import ConfigError
from brainage.workflows.console import run_as_command, say
from pipelines.study.catalogue import STUDIES
from pipelines.study.plan import check_name
from pipelines.study.table import Results

CAPTION_WIDTH = 80
_MEND = "Give what `brainage study` wrote."


def read_results(name: str, folder: Path) -> Results:
    """Read a study's table, and its curves where it has any.

    Raises
    ------
    ConfigError
        If the table is missing, or is none of that study; or if a table's rows come twice, were
        lost, or hold no numbers: the picture would show what was not measured.
    """
    path = folder / f"{name}.csv"
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), f"cannot be read ({type(error).__name__}).") from error
    metrics = tuple(metric for metric in STUDIES[name].metrics if metric in table)
    if "seeds" not in table or not metrics:
        known = ", ".join(STUDIES[name].metrics)
        raise ConfigError(str(path), f"is no table of {name}.", f"Expected seeds and {known}.")
    axes = tuple(table.columns[: table.columns.get_loc("seeds")])
    _check_rows(table, path, list(axes), list(metrics))
    page = path.with_suffix(".md")
    written = _count_rows(page) if page.exists() else len(table)
    if written != len(table):
        raise ConfigError(str(path), f"has {len(table)} rows, {page.name} has {written}.", _MEND)
    place = folder / f"{name}_curves.csv"
    if not place.exists():
        return Results(table, axes, metrics, pd.DataFrame())
    curves = pd.read_csv(place)
    _check_rows(curves, place, [*curves.columns.drop("value", errors="ignore")], ["value"])
    return Results(table, axes, metrics, curves)


def _check_rows(table: pd.DataFrame, path: Path, names: list[str], numbers: list[str]) -> None:
    """Refuse a table without rows, with two of one name, or with text in place of numbers."""
    text = [name for name in numbers if name in table and not is_numeric_dtype(table[name])]
    if table.empty or text:
        problem = f"holds no numbers in {', '.join(text)}." if len(table) else "has no rows."
        raise ConfigError(str(path), problem, _MEND)
    if names and (twice := table.duplicated(names)).any():
        row = ", ".join(str(value) for value in table.loc[twice, names].iloc[0])
        raise ConfigError(str(path), f"has two rows of {row}.", _MEND)


def _count_rows(page: Path) -> int:
    """Count the rows of the table on a study's page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return sum(line.startswith("|") for line in lines) - 2


def redraw(name: str, folder: Path) -> Path:
    """Draw a study's picture anew from what `brainage study` wrote into a folder.

    Raises
    ------
    ConfigError
        If the study is unknown, its table cannot be read, or the picture needs curves that are
        not there.
    """
    check_name(name)
    results = read_results(name, folder)
    title, caption = name, ""
    page = folder / f"{name}.md"
    if page.exists():
        paragraphs = page.read_text(encoding="utf-8").split("\n\n")
        title = textwrap.fill(paragraphs[0].removeprefix("## "), CAPTION_WIDTH)
        caption = textwrap.fill(" ".join(paragraphs[1].split()).rpartition("`. ")[2], CAPTION_WIDTH)
    try:
        return STUDIES[name].draw(results, folder / f"{name}.png", title, caption)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            str(folder),
            f"the picture cannot be drawn ({error}).",
            f"Keep {name}_curves.csv beside it.",
        ) from error


def main() -> None:
    """Draw the named pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--folder", type=Path, default=Path("study"))
    arguments = parser.parse_args()
    for name in arguments.names:
        say(str(redraw(name, arguments.folder)))


if __name__ == "__main__":
    sys.exit(run_as_command(main))
