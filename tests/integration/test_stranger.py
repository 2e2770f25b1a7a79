"""The three commands at the top of README.md, run in a fresh clone."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def first_commands() -> list[str]:
    """Lines of the first block of commands in the README."""
    block = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    return block[1].strip().splitlines()


def test_readme_begins_with_picture_notice_and_three_commands():
    screen = (ROOT / "README.md").read_text().splitlines()[:24]
    assert len(first_commands()) == 3
    assert any("Research use only" in line for line in screen)
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", "\n".join(screen))
    assert len(pictures) == 1 and (ROOT / pictures[0]).is_file()


def test_links_of_readme_and_docs_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in link and not link.startswith("mailto:"):
                assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


@pytest.mark.slow
def test_three_commands_lead_from_clone_to_report(tmp_path):
    clone = tmp_path / "brainage"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    kept = {key: os.environ[key] for key in os.environ if not key.startswith(("PYTHON", "VIRTUAL"))}
    path = os.pathsep.join(
        part for part in os.environ["PATH"].split(os.pathsep) if "venv" not in part
    )
    environment = {**kept, "PATH": path, "HOME": str(tmp_path)}
    script = "\n".join(first_commands())
    result = subprocess.run(
        ["bash", "-euc", script], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert json.loads((clone / "report.json").read_text())["result"]["predicted_age_years"] > 0
    assert (clone / "report.pdf").read_bytes().startswith(b"%PDF")
    assert "Research use only" in (clone / "report.html").read_text()
