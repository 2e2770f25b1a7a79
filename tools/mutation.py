"""Test the tests: change the code in small ways and count the changes that some test notices.

    python -m tools.mutation --sample 60 --seed 0

mutmut makes the mutants and runs, for each, the tests that reach the changed function. Of each
package a sample is drawn from the seed; results are kept under ``mutants/`` and the table is
written with 95 % Clopper-Pearson intervals. ``--sample 0`` runs all of them (hours). A run that was
cut short goes on; delete ``mutants/`` after tests have changed. Rows of other packages and seeds
that the page has already are kept.
"""

import argparse
import json
import os
import random
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

import torch

from tools.pages import MARK, write_below_mark

os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

PACKAGES = {
    "lfnn": ("brainage/lfnn/*",),
    "evaluation": ("brainage/evaluation/*",),
    "data: splits": ("brainage/cohorts/splits.py",),
    "data: reading volumes": (
        "brainage/scans/volume.py",
        "brainage/scans/headers.py",
    ),
    "preprocessing: quality gate": tuple(
        f"brainage/preprocessing/{name}.py" for name in ("quality", "values", "verdict")
    ),
}
TESTS = {
    "lfnn": ("tests/unit/lfnn",),
    "evaluation": ("tests/unit/evaluation",),
    "data: splits": ("tests/unit/cohorts/test_splits.py", "tests/unit/cohorts/test_refusals.py"),
    "data: reading volumes": ("tests/unit/scans", "tests/unit/cohorts/test_refusals.py"),
    "preprocessing: quality gate": tuple(
        f"tests/unit/preprocessing/test_{name}.py" for name in ("measures", "values", "verdict")
    ),
}
HEAD = (
    "| package | seed | mutants | sample | noticed | survived | no test | score %, 95 % CI |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)
NOTICED = ("killed", "timeout", "segfault", "suspicious")
PATIENCE_S = 900


def narrow(packages: Sequence[str]) -> None:
    """Mutate these packages and run their tests alone: a part of the time."""
    from mutmut.configuration import config

    config().only_mutate[:] = [pattern for name in packages for pattern in PACKAGES[name]]
    tests = dict.fromkeys(test for name in packages for test in TESTS[name])
    config().pytest_add_cli_args_test_selection[:] = list(tests)


def make_mutants() -> dict[str, dict[str, int | None]]:
    """Write mutants of all modules that `pyproject.toml` names; names and exit codes by module."""
    from mutmut import __main__ as mutmut

    Path("mutants").mkdir(exist_ok=True)
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.create_mutants(1)
    return read_results()


def read_results() -> dict[str, dict[str, int | None]]:
    """Exit code of each mutant, None where it was not run."""
    files = sorted(Path("mutants/brainage").rglob("*.py.meta"))
    return {
        path.relative_to("mutants").as_posix().removesuffix(".meta"): json.loads(path.read_text())[
            "exit_code_by_key"
        ]
        for path in files
    }


def choose(names: Iterable[str], count: int, seed: int, package: str) -> list[str]:
    """Draw a package's sample."""
    ordered = sorted(names)
    if count <= 0 or count >= len(ordered):
        return ordered
    return random.Random(f"{seed} {package}").sample(ordered, count)


def package_mutants(
    modules: dict[str, dict[str, int | None]], package: str
) -> dict[str, int | None]:
    """All mutants of a package."""
    return {
        name: code
        for module, results in modules.items()
        if any(fnmatch(module, pattern) for pattern in PACKAGES[package])
        for name, code in results.items()
    }


def run_mutants(names: Sequence[str]) -> None:
    """Run mutants one after another in an order of chance, the quickest tests of each first.

    A run that is cut short has then run a random part. What counts as endless is told by seconds
    of processor, as other work on the machine must not decide.
    """
    from mutmut import __main__ as mutmut
    from mutmut.runners.harness import PytestRunner
    from mutmut.state import state
    from mutmut.workers import isolation

    run_tests, register_timeout = PytestRunner.run_tests, isolation.register_timeout

    def by_time(self: PytestRunner, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        ordered = sorted(tests, key=lambda test: state().duration_by_test.get(test, 0.0))
        return int(run_tests(self, mutant_name=mutant_name, tests=ordered))

    PytestRunner.run_tests = by_time
    isolation.register_timeout = lambda pid, timeout_s: register_timeout(
        pid, timeout_s + PATIENCE_S
    )
    mutmut.estimated_worst_case_time = lambda name: sha256(name.encode()).digest()
    mutmut._run(tuple(names), 1)


def score_rows(
    chosen: dict[str, list[str]], modules: dict[str, dict[str, int | None]], seed: int
) -> list[str]:
    """A row a package: seed, mutants, sample, noticed, survived, untested, score and interval."""
    from mutmut.stats import status_by_exit_code
    from scipy import stats

    rows = []
    for package, names in chosen.items():
        results = package_mutants(modules, package)
        states = [status_by_exit_code[results[name]] for name in names if results[name] is not None]
        noticed = sum(state in NOTICED for state in states)
        exact = stats.binomtest(noticed, len(states)).proportion_ci(method="exact")
        rows.append(
            f"| {package} | {seed} | {len(results)} | {len(states)} | {noticed} "
            f"| {states.count('survived')} | {states.count('no tests')} "
            f"| {100 * noticed / len(states):.0f} "
            f"({100 * exact.low:.0f}–{100 * exact.high:.0f}) |"
        )
    return rows


def join(page: Path | None, rows: Sequence[str]) -> list[str]:
    """Rows of this run and those of other packages and seeds that the page holds already."""
    text = page.read_text(encoding="utf-8") if page is not None and page.exists() else ""
    cells = [line.split(" | ") for line in (*text.partition(MARK)[2].splitlines(), *rows)]
    order = list(PACKAGES)
    by_run = {
        (order.index(row[0][2:]), int(row[1])): " | ".join(row)
        for row in cells
        if row[0][2:] in order and len(row) == HEAD[0].count(" | ") + 1
    }
    return [by_run[run] for run in sorted(by_run)]


def main() -> None:
    """Make, draw, run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=60, help="mutants of each package; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(PACKAGES), action="append")
    parser.add_argument("--table-only", action="store_true", help="of what has been run")
    parser.add_argument("--report", type=Path, help="page that gets the table")
    options = parser.parse_args()
    packages = options.only or list(PACKAGES)
    if options.only:
        narrow(packages)
    modules = make_mutants()
    chosen = {
        name: choose(package_mutants(modules, name), options.sample, options.seed, name)
        for name in packages
    }
    if not options.table_only:
        known = {name: code for results in modules.values() for name, code in results.items()}
        left = [name for names in chosen.values() for name in names if known[name] is None]
        if left:
            run_mutants(left)
    results = read_results()
    lines = [
        f"`python -m tools.mutation --only PACKAGE --sample {options.sample} --seed SEED`",
        "",
        *HEAD,
        *join(options.report, score_rows(chosen, results, options.seed)),
    ]
    text = "\n".join(lines) + "\n"
    if options.report is not None:
        write_below_mark(options.report, text)
    print(text)


if __name__ == "__main__":
    main()
