"""Files that explain a BIDS data set of ours: dictionaries of the columns of its tables."""

import json
from collections.abc import Hashable, Iterable
from pathlib import Path

from brainage.files import atomic_write_text

_COLUMNS = {
    "age": {"Description": "Age at the scan; of several sessions, at the first.", "Units": "year"},
    "sex": {"Description": "Sex.", "Levels": {"F": "female", "M": "male"}},
    "site": {"Description": "Site or scanner, as the source tells it."},
    "source": {"Description": "Where the scan comes from: synthetic ones are nobody's brain."},
    "CDR": {"Description": "Clinical Dementia Rating: 0 none, 0.5 very mild, 1 mild, 2 moderate."},
    "MMSE": {"Description": "Mini-Mental State Examination, 0 to 30."},
}


def write_dictionary(path: Path, columns: Iterable[Hashable], description: str = "") -> None:
    """Write the JSON file beside a table that explains its columns.

    Parameters
    ----------
    path : pathlib.Path
    columns : iterable of str
        Names of the table's columns; those that are not known here are left out.
    description : str
        Of the table, which BIDS asks for in derivatives.

    Raises
    ------
    BrainageError
        If it cannot be written.
    """
    told: dict[str, object] = {"Description": description} if description else {}
    named = set(columns)
    told |= {name: about for name, about in _COLUMNS.items() if name in named}
    atomic_write_text(path, json.dumps(told, indent=2) + "\n")
