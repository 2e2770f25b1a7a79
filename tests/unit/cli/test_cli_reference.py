from pathlib import Path

from brainage.cli.reference import render_reference


def test_reference_in_the_docs_is_that_of_the_code():
    path = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
    written = path.read_text(encoding="utf-8")
    assert written == render_reference(), "docs/reference/cli.md is out of date: run `make docs`"


def test_seed_of_0_is_told():
    assert "| `--seed INTEGER` | Seed of the cohort. | `0` |" in render_reference()
