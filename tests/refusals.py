"""What a refusal must say, whatever its wording: the place, and the facts of its rule."""

import re

from brainage.errors import BrainageError


def check_refusal(error: BrainageError, where: str, *facts: str) -> None:
    """One line that begins with the place and names each fact, numbers as a whole."""
    text = str(error)
    assert text.startswith(f"{where}: ") and "\n" not in text, text
    missing = [fact for fact in facts if not re.search(rf"(?<![\w.]){re.escape(fact)}(?!\w)", text)]
    assert not missing, f"{missing} not in {text!r}"
