from pathlib import Path

from pipelines.cli_reference import render_reference


def test_reference_in_the_docs_is_that_of_the_code():
    written = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == render_reference(), "docs/cli.md is out of date: run `make docs`"
