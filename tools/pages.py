"""Pages of the documentation that a program writes a part of."""

from pathlib import Path

MARK = "<!-- below: written by the program, not by hand -->"


def write_below_mark(page: Path, text: str) -> None:
    """Replace what stands below a page's mark; without a page or mark, begin one."""
    above = page.read_text(encoding="utf-8").partition(MARK)[0] if page.exists() else ""
    page.write_text(f"{above}{MARK}\n\n{text}", encoding="utf-8")
