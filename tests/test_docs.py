"""The documentation: lines, words, generated pages, and the strict build."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md")) + [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
]
# Made by programs: one row a run, or one row a package.
MADE = ("docs/benchmarks/study/", "docs/reference/licences.md", "docs/reference/cli.md")


def _load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _prose(text: str) -> list[tuple[int, str]]:
    """Return the numbered lines outside code blocks and tables."""
    lines, in_code = [], False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code and not line.lstrip().startswith(("|", "[![")):
            lines.append((number, _without_links(line)))
    return lines


def _without_links(line: str) -> str:
    return re.sub(r"\]\([^)]*\)|https?://\S+", "]()", line)


def _is_made(page: Path) -> bool:
    return page.relative_to(ROOT).as_posix().startswith(MADE)


@pytest.mark.parametrize("page", [p for p in PAGES if not _is_made(p)], ids=lambda p: p.name)
def test_prose_has_at_most_100_columns(page: Path) -> None:
    long = [n for n, line in _prose(page.read_text(encoding="utf-8")) if len(line) > 100]
    assert not long, f"{page.relative_to(ROOT)}: wrap lines {long}"


@pytest.mark.parametrize("page", [p for p in PAGES if not _is_made(p)], ids=lambda p: p.name)
def test_tables_outside_the_logs_have_at_most_100_columns(page: Path) -> None:
    if "log" in page.parts:
        pytest.skip("logs keep their wide tables")
    rows = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    long = [n for n, line in rows if line[:1] == "|" and len(_without_links(line)) > 100]
    assert not long, f"{page.relative_to(ROOT)}: shorten rows {long}"


def test_words_of_the_old_dialect_are_gone() -> None:
    words = re.compile(r"the seed's|\(show \d|entrant|\baids?\b|\brivals?\b|\blaps?\b", re.I)
    found = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in PAGES
        for _, line in _prose(page.read_text(encoding="utf-8"))
        if words.search(re.sub(r"`[^`]*`", "", line))
    ]
    assert not found


def test_readme_has_no_placeholder() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not re.findall(r"REPOSITORY|SCAN\.nii|YOUR_|<[a-z-]+>|\bRAW\b", text)


def test_files_that_the_docs_name_exist() -> None:
    name = re.compile(r"`((?:brainage|pipelines|tests|tools|deploy|configs|app)/[\w/.-]+)`")
    missing = [
        f"{page.relative_to(ROOT)}: {path}"
        for page in PAGES
        for path in name.findall(page.read_text(encoding="utf-8"))
        if "NAME" not in path and not (ROOT / path).exists()
    ]
    assert not missing


def _options() -> dict[str, set[str]]:
    """Return the options of each command, from the generated reference."""
    found: dict[str, set[str]] = {}
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    for section in text.split("## brainage ")[1:]:
        found[section.split("\n", 1)[0].strip()] = set(re.findall(r"`(--[a-z-]+)", section))
    return found


def test_commands_of_the_docs_exist_with_their_options() -> None:
    options, wrong = _options(), []
    for page in PAGES:
        if page.name == "CHANGELOG.md" or "log" in page.parts or _is_made(page):
            continue
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            for name, rest in re.findall(r"\bbrainage ([a-z]+)\b([^\n|&;]*)", block):
                flags = set(re.findall(r"(?<!\S)(--[a-z-]+)", rest.split("  #")[0]))
                if name in options:
                    wrong += [f"{page.name}: {name} {f}" for f in flags - options[name]]
                elif "docker" not in rest and name not in ("python",):
                    wrong.append(f"{page.name}: no command {name}")
    assert not wrong


def test_generated_pages_are_those_of_the_code() -> None:
    pytest.importorskip("griffe")
    stale = [
        str(page.relative_to(ROOT))
        for page, text in _load_generator().pages().items()
        if not page.exists() or page.read_text(encoding="utf-8") != text
    ]
    assert not stale, f"run `python docs/generate.py`: {stale}"


@pytest.mark.parametrize(
    "told",
    [
        "`learning.leader_fraction`**: number or `auto`, default `0.5`",
        "`learning.blocks`**: integer ≥ 1, default `null`",
        "`network.arguments`**: mapping, default `{}`",
    ],
)
def test_settings_have_their_types_bounds_and_defaults(told: str) -> None:
    pytest.importorskip("griffe")
    assert told in _load_generator().render_settings()


def test_site_builds_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    foreign = re.compile(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="https?://[^"]+"')
    for page in tmp_path.rglob("*.html"):
        links = foreign.findall(page.read_text(encoding="utf-8"))
        assert not [tag for tag in links if "canonical" not in tag], page.name
