"""The card says what the release was given."""

import json

from brainage.model.card import build_card
from brainage.model.released import RELEASED_FOLDER


def test_note_of_the_release_stands_on_the_card() -> None:
    facts = json.loads((RELEASED_FOLDER / "bundle.json").read_text(encoding="utf-8"))
    note = "Only what lies inside is seen."
    assert note in build_card({**facts, "release_note": note})
