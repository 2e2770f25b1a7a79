"""What a refusal must say, whatever its wording: the place, and the facts of its rule."""

from brainage.errors import BrainageError


def check_refusal(error: BrainageError, where: str, *facts: str) -> None:
    """One line that begins with the place and names each fact."""
    text = str(error)
    assert text.startswith(f"{where}: ") and "\n" not in text, text
    missing = [fact for fact in facts if fact not in text]
    assert not missing, f"{missing} not in {text!r}"
