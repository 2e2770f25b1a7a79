"""The commands that the campaign disturbs, on cohorts so small that each takes a second or two."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainage.errors import BundleError
from brainage.files import LOCK, is_temporary, sha256_bytes
from brainage.model.bundle import load_bundle
from tools.faults.server import Run, Server

SUBJECTS = 8
# What two undisturbed runs do not share: time and memory, and hashes of files that hold them.
_VOLATILE = re.compile(
    "seconds|memory|SidecarSHA256|per_step|made_on|created|git_commit", re.IGNORECASE
)
_HASHES_OF_VOLATILE = ("bundle.json", "card.md")
_TIMED_FILES = re.compile(
    r"comparison\.(md|png)|summary\.csv|training_curves\.png|card\.md|.*\.pdf|checkpoint\..*"
)
TINY = (
    "--preset", "phantom", "--set", "network.arguments={channels: [4, 8]}",
    "--set", "learning.workers_per_block=2", "--device", "cpu", "--tracking-uri", "off",
)  # fmt: skip
TRAIN = (*TINY, "--check-leakage", "none", "--baselines", "constant")


@dataclass(frozen=True)
class Inputs:
    """What all runs read: a cohort, its cache, a model."""

    folder: Path

    @property
    def cohort(self) -> Path:
        """Table of the phantoms."""
        return self.folder / "cohort" / "cohort.csv"

    @property
    def model(self) -> Path:
        """A trained bundle."""
        return self.folder / "model"

    def scans(self, count: int) -> list[str]:
        """Paths of the first scans."""
        return [str(path) for path in sorted(self.cohort.parent.rglob("*_T1w.nii.gz"))[:count]]


Arguments = Callable[[Inputs, Path], tuple[object, ...]]


@dataclass(frozen=True)
class Command:
    """A command under test.

    Attributes
    ----------
    arguments : callable
        From the inputs and the folder of the attempt to what follows ``brainage``; everything is
        written below the folder, results below ``out``.
    resumes : bool
        Whether it has ``--resume``.
    warm : bool
        Whether scans are prepared already.
    draws : bool
        Whether pictures are drawn; else they are empty files, which takes a third of the time.
    """

    name: str
    arguments: Arguments = field(repr=False)
    resumes: bool = False
    warm: bool = True
    draws: bool = False

    def run(self, inputs: Inputs, folder: Path, *more: str, **how: Any) -> Run:
        """The run in a folder."""
        given = (*self.arguments(inputs, folder), *more)
        quick = {} if self.draws else {"FAULTS_PLAN": "tools.faults.plans:draw_nothing"}
        environment = quick | how.pop("environment", {})
        text = tuple(str(part) for part in given)
        return Run(text, str(folder), environment=environment, **how)

    def start(self, inputs: Inputs, folder: Path) -> None:
        """Make a folder for an attempt."""
        folder.mkdir(parents=True)
        if self.warm:
            shutil.copytree(inputs.folder / "cache", folder / "cache")


def _train(*more: str) -> Arguments:
    def arguments(inputs: Inputs, folder: Path) -> tuple[object, ...]:
        where = ("--cohort", inputs.cohort, "--output", folder / "out", "--cache", folder / "cache")
        return ("train", *where, *TRAIN, *more)

    return arguments


def _compare(inputs: Inputs, folder: Path) -> tuple[object, ...]:
    where = ("--cohort", inputs.cohort, "--output", folder / "out", "--cache", folder / "cache")
    return ("compare", *where, *TINY, "--methods", "bp,lfnn_l", "--epochs", "2")


def _prepare(*more: str) -> Arguments:
    def arguments(inputs: Inputs, folder: Path) -> tuple[object, ...]:
        where = ("--output", folder / "out", "--cache", folder / "cache")
        table = inputs.folder / "cohort" / "two.csv"
        return ("prepare", "--cohort", table, *where, "--spacing-mm", "8", *more)

    return arguments


def _predict(inputs: Inputs, folder: Path) -> tuple[object, ...]:
    where = ("--output", folder / "out" / "predictions.csv", "--cache", folder / "cache")
    return ("predict", *inputs.scans(2), "--model", inputs.model, *where)


def _report(inputs: Inputs, folder: Path) -> tuple[object, ...]:
    known = ("--age", "50", "--output", folder / "out" / "page")
    return ("report", *inputs.scans(1), "--model", inputs.model, *known)


def _phantoms(inputs: Inputs, folder: Path) -> tuple[object, ...]:
    return ("phantoms", "--output", folder / "out", "--subjects", "3")


COMMANDS = {
    command.name: command
    for command in (
        Command("train, sequential", _train("--epochs", "3"), resumes=True),
        Command(
            "train, progressive",
            _train("--epochs", "4", "--set", "learning.schedule=progressive"),
            resumes=True,
        ),
        Command("train, 2 processes", _train("--epochs", "3", "--processes", "2"), resumes=True),
        Command("train, 2 folds", _train("--epochs", "2", "--folds", "2"), resumes=True),
        Command("compare", _compare, resumes=True),
        Command("prepare", _prepare(), warm=False, draws=True),
        Command("prepare, 2 jobs", _prepare("--jobs", "2"), warm=False, draws=True),
        Command("predict", _predict, warm=False),
        Command("report", _report, warm=False, draws=True),
        Command("phantoms", _phantoms, warm=False),
    )
}


def build_inputs(server: Server, folder: Path) -> Inputs:
    """Cohort, cache and model for all attempts."""
    inputs = Inputs(folder)
    made = [
        Run(
            ("phantoms", "--output", str(folder / "cohort"), "--subjects", str(SUBJECTS)), folder=""
        )
    ]
    folder.mkdir(parents=True, exist_ok=True)
    train = COMMANDS["train, sequential"].arguments(inputs, folder)
    made.append(Run(tuple(str(part) for part in train), folder=""))
    for run in made:
        ended = server.run(Run(run.arguments, str(folder)))
        assert ended.code == 0, ended.output
    (folder / "out").rename(inputs.model)
    lines = inputs.cohort.read_text().splitlines()[:3]
    (folder / "cohort" / "two.csv").write_text("\n".join(lines) + "\n")
    return inputs


def digest(folder: Path) -> dict[str, str]:
    """Hash of each result by its path, without what tells of time and memory."""
    return {
        path.relative_to(folder).as_posix(): sha256_bytes(_lasting(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name != LOCK
        and not is_temporary(path)
        and not _TIMED_FILES.fullmatch(path.name)
    }


def unfinished(folder: Path) -> list[str]:
    """Files that some run never finished."""
    found = [path for path in folder.rglob(".*") if is_temporary(path)]
    return [path.relative_to(folder).as_posix() for path in found]


def wrong_files(folder: Path, expected: dict[str, str]) -> list[str]:
    """Results in a folder that are there but not as an undisturbed run leaves them.

    A bundle is a result as a whole: its files count only once its manifest is there.
    """
    found = digest(folder)
    wrong = [name for name, value in found.items() if value != expected.get(name)]
    for name in found:
        if name.endswith("manifest.json"):
            try:
                load_bundle((folder / name).parent)
            except BundleError as error:
                wrong.append(str(error))
    return wrong


def _lasting(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_strip(json.loads(content)), sort_keys=True).encode()
    if path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(content.decode())))
        kept = [i for i, name in enumerate(rows[0]) if not _VOLATILE.search(name)]
        return json.dumps([[row[i] for i in kept] for row in rows]).encode()
    if path.suffix == ".html":
        return re.sub(rb"\d+(\.\d+)? s\b", b"", content)
    return content


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        stripped = {k: _strip(v) for k, v in value.items() if not _VOLATILE.search(k)}
        if "members" in stripped and "sha256" in stripped:
            stripped["members"] = sorted(stripped["members"])
        for name in _HASHES_OF_VOLATILE:
            stripped.pop(name, None)
        return stripped
    return [_strip(item) for item in value] if isinstance(value, list) else value
