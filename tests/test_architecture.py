"""The house rules that a tool can check."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("brainage", "pipelines", "app", "tools", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PRODUCT = [path for path in SOURCES if path.relative_to(ROOT).parts[0] not in ("tools", "tests")]
# Words of a dialect that readers would have to learn; "the seed" is one of random numbers.
WORDS = ("the seed's", "show [0-9]", "entrants?", "whoever", "dearest", "rivals?")
DIALECT = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)


def test_layers_hold():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_no_file_name_stands_in_more_than_two_folders():
    names = Counter(path.name for path in PRODUCT if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 2] == []


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_are_those_of_the_field(path):
    found = [line for line in path.read_text().splitlines() if DIALECT.search(line)]
    assert found == []


def test_modules_of_the_pipelines_that_are_run_talk_like_commands():
    run = [path for path in (ROOT / "pipelines").rglob("*.py") if "__main__" in path.read_text()]
    silent = [path.name for path in run if "run_as_command(main)" not in path.read_text()]
    assert silent == ["__main__.py"]  # of the device: each call runs as a command


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("torchio", "brainage/loading"),
        ("mlflow", "brainage/tracking"),
        ("streamlit", "app"),
    ],
)
def test_a_package_is_imported_in_one_place_only(package, home):
    for path in SOURCES:
        name = str(path.relative_to(ROOT))
        if name.startswith((home, "tests", "tools")):
            continue
        lines = [line.strip() for line in path.read_text().splitlines()]
        words = (f"import {package}", f"from {package}")
        assert not any(line.startswith(words) for line in lines), name


def imported_names(path):
    """Modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


@pytest.mark.parametrize(
    "path", sorted((ROOT / "app").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_page_takes_its_numbers_from_the_server_and_the_public_names(path):
    for name in imported_names(path):
        if name.split(".")[0] == "brainage":
            assert name in ("brainage", "brainage.types") or name.startswith("brainage.serving.")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_installed_imports_the_page_or_the_studies(path):
    if path.is_relative_to(ROOT / "brainage"):
        outside = {"app", "pages", "page_parts", "pipelines", "tools", "tests"}
        assert not outside & {name.split(".")[0] for name in imported_names(path)}


def test_nothing_loads_pickles():
    for path in SOURCES:
        if path.name != Path(__file__).name:
            text = path.read_text()
            assert "import pickle" not in text and "torch.load(" not in text, path


def test_help_needs_no_heavy_import():
    heavy = ("torch", "monai", "pandas", "mlflow", "matplotlib", "sklearn")
    code = f"import brainage.cli.main, sys; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_what_places_scans_and_what_predicts_import_no_more_than_they_need():
    # Before its model a command has a child place scans; each import keeps somebody waiting.
    unused = ("torch", "matplotlib", "nilearn", "mlflow", "monai", "SimpleITK")
    code = "import sys, brainage.prepared.arrays;"
    code += f"print([m for m in {(*unused, 'sklearn', 'pandas')} if m in sys.modules]);"
    code += "import brainage.workflows.predict;"
    code += f"print([m for m in {unused} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split() == ["[]", "[]"], result.stdout + result.stderr


def test_pages_server_leaves_networks_to_its_children():
    heavy = ("torch", "monai", "nilearn", "sklearn", "SimpleITK", "mlflow", "typst")
    code = "import page_parts.server, page_parts.results, page_parts.sessions, sys;"
    code += "import brainage.serving.model_list;"
    code += f"print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "app", capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_no_tracked_file_is_ignored():
    # A wheel leaves ignored files out: the released model once went missing so.
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"not a git checkout that may be read: {found.stderr.strip()}")
    assert found.stdout == ""
