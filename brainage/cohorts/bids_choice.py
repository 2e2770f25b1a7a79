"""Choose among several T1w files of a session, by a written order over their BIDS entities."""

import re
from collections.abc import Mapping, Sequence

_POST_CONTRAST = re.compile(
    r"post(?!op)|(?<!no)(?<!non)(?<!pre)(?<!wo)(?<!out)(?:gad|gd|contrast)|\+c", re.IGNORECASE
)
_NO_AGENT = re.compile(r"no|pre|wo|without|native|0", re.IGNORECASE)
_PARTIAL = re.compile(r"inplane|slab|partial|hippo|cropped", re.IGNORECASE)
_WHOLE_HEAD_3D = re.compile(r"mpr|tfl|bravo|spgr|3d|iso", re.IGNORECASE)
_CORRECTED = re.compile(r"moco|mocorr|pmc", re.IGNORECASE)

_MAX_LISTED = 3


def preference(entities: Mapping[str, str], stem: str) -> tuple[int | str, ...]:
    """Return the sort key of a T1w file; the smallest is used.

    The order: MNI space before native space (derivatives); without contrast agent; magnitude;
    whole head rather than a slab; not defaced; motion-corrected, then plain, then other
    reconstructions; no echo and no inversion number, then the lowest; no acquisition label, then a
    3-D one such as MPRAGE, then others; no run, then the lowest; by name.

    Examples
    --------
    >>> names = ["acq-pre_T1w", "acq-post_ce-gad_T1w"]
    >>> min(names, key=lambda name: preference(parse_entities(name), name))
    'acq-pre_T1w'
    """
    acquisition, reconstruction = entities.get("acq", ""), entities.get("rec", "")
    return (
        _space_rank(entities),
        int(has_contrast(entities)),
        int(entities.get("part", "mag") != "mag"),
        int(bool(_PARTIAL.search(acquisition))),
        int("defaced" in stem.lower()),
        0 if _CORRECTED.search(reconstruction) else 1 + bool(reconstruction),
        _number(entities, "echo"),
        _number(entities, "inv"),
        0 if not acquisition else 1 + (not _WHOLE_HEAD_3D.search(acquisition)),
        _number(entities, "run"),
        stem,
    )


def parse_entities(stem: str) -> dict[str, str]:
    """Return the entities of a BIDS name without its ending, such as {"sub": "01", "run": "2"}."""
    pairs = (part.partition("-") for part in stem.split("_")[:-1])
    return {key: value for key, _, value in pairs}


def has_contrast(entities: Mapping[str, str]) -> bool:
    """Tell whether a name says that a contrast agent was given."""
    agent = entities.get("ce", "")
    if agent:
        return not _NO_AGENT.match(agent)
    return bool(_POST_CONTRAST.search(entities.get("acq", "")))


def refuse_image(entities: Mapping[str, str]) -> str:
    """Return why a file cannot be used though it is the best of its session, or empty."""
    part = entities.get("part", "mag")
    return "" if part == "mag" else f"is the {part} part of a complex image, not its magnitude"


def describe_choice(sessions: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return a sentence on what was chosen where there was a choice, and on contrast agents.

    Parameters
    ----------
    sessions : sequence of sequences of str
        Names of each session's T1w files, the used one first.
    """
    several = [names[0] for names in sessions if len(names) > 1]
    remarks = []
    if several:
        remarks.append(f"sessions with several T1w files: {len(several)}; used: {_list(several)}.")
    contrast = [names[0] for names in sessions if has_contrast(parse_entities(names[0]))]
    if contrast:
        remarks.append(
            f"sessions with no T1w without contrast: {len(contrast)}; used: {_list(contrast)}."
        )
    return tuple(remarks)


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _space_rank(entities: Mapping[str, str]) -> int:
    description, space = entities.get("desc", ""), entities.get("space", "")
    if description == "preproc" and space.startswith("MNI"):
        # Of several MNI spaces the one of the network's template goes first.
        return 0 if space.startswith("MNI152NLin2009c") else 1
    return 2 if not space and description in ("", "preproc") else 3


def _number(entities: Mapping[str, str], name: str) -> int:
    """Return the number of an entity; -1 without the entity, so that no run comes first."""
    digits = re.sub(r"\D", "", entities.get(name, ""))
    return int(digits or 0) if name in entities else -1
