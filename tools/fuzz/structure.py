"""Inputs whose form is right and whose content is extreme: headers, tables, settings, facts."""

import gzip
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import yaml
from hypothesis import strategies as st

from tools.fuzz.models import bundle_seed, sign
from tools.fuzz.tables import event_seeds, prediction_seeds, study_seeds, yaml_seeds
from tools.fuzz.target import Files

Draw = st.DrawFn

SIDES = st.sampled_from((8, 8, 9, 11, 1, 0, -1, 7, 1024, 1025, 32767, -32768))
SINGLES = st.one_of(
    st.sampled_from((0.0, 1.0, 2.0, -1.0, -2.0, 0.1999, 10.01, 352.0, 1e38)),
    st.floats(width=32),
)
CODES = st.sampled_from((0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 2304, 7))
TEXT_CELLS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        (
            *("", " ", "n/a", "NaN", "inf", "-inf", "1e400", "9" * 400, "0x10", "1_000", "٣"),
            *("=1+1", "=cmd|' /C calc'!A0", "@SUM(A1)", "+1", "-1", "'", '"', '""', "\\", "\0"),
            *("30", "30,5", "89+", "045Y", "1e2", "a.nii", "../../etc/passwd", "C:\\a", "\ud800"),
            *("/dev/zero", "a\nb", "a\tb", "a;b", "a,b", "<script>", "\u202e", "\ufeff", "1.7e308"),
        )
    ),
)
NAMES = st.one_of(
    st.sampled_from(
        (
            *("id", "ID", "id ", "age", "Age", "AGE", "path", "sex", "site", "subject_id", "file"),
            *("scan_id", "scan", "session_id", "age_years", "unnamed_1", "", "derivative_mask"),
        )
    ),
    TEXT_CELLS,
)
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1")
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from((2**63, -(2**64), 1e308, float("nan"), float("inf"))),
        st.floats(),
        TEXT_CELLS,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def nifti(draw: Draw) -> Files:
    """NIfTI-1, NIfTI-2 and Analyze: dimensions, types, scales, forms, extensions and offsets."""
    kinds = (nib.Nifti1Header, nib.Nifti2Header, nib.Spm2AnalyzeHeader)
    kind, order = draw(st.sampled_from(kinds)), draw(st.sampled_from("<>"))
    header = np.array(kind(endianness=order).structarr)
    fields = set(header.dtype.names or ())
    dims = [3, *draw(st.lists(st.sampled_from((8, 9, 11)), min_size=3, max_size=3)), 1, 1, 1, 1]
    changes: dict[str, st.SearchStrategy[Any]] = {
        "datatype": CODES,
        "bitpix": st.sampled_from((0, 8, 16, 32, 64, 80, 127)),
        "vox_offset": st.sampled_from((0, 1, 348, 352, 353, 544, 4096, 2**31 - 1, -1)),
        "scl_slope": SINGLES,
        "scl_inter": SINGLES,
        "sform_code": st.integers(-2, 6),
        "qform_code": st.integers(-2, 6),
        "xyzt_units": st.integers(0, 255),
        "magic": st.sampled_from((b"n+1\0", b"ni1\0", b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n", b"")),
        "quatern_b": SINGLES,
        "quatern_c": SINGLES,
        "qoffset_x": SINGLES,
    }
    changes |= {
        name: st.lists(SINGLES, min_size=size, max_size=size)
        for name, size in {"srow_x": 4, "srow_y": 4, "srow_z": 4, "pixdim": 8}.items()
    }
    header["datatype"], header["bitpix"] = draw(st.sampled_from(((2, 8), (4, 16), (16, 32))))
    header["pixdim"][1:4] = 2
    for place in draw(st.lists(st.integers(0, 7), max_size=2)):
        dims[place] = draw(st.one_of(st.integers(-1, 8), SIDES))
    header["dim"] = dims
    with np.errstate(all="ignore"):
        for name in draw(st.lists(st.sampled_from(sorted(fields & set(changes))), max_size=4)):
            header[name] = draw(changes[name])
    more = draw(st.sampled_from((b"", b"\0" * 4, b"\1\0\0\0" + struct.pack(f"{order}2i", 16, 6))))
    content = header.tobytes() + (more if kind is not nib.Spm2AnalyzeHeader else b"")
    return draw(
        _packed(content, paired=b"ni" in bytes(header["magic"]) if "magic" in fields else True)
    )


@st.composite
def mgh(draw: Draw) -> Files:
    """MGH: dimensions, frames, types, directions and spacings."""
    sides = draw(st.lists(st.one_of(st.sampled_from((8, 9, 11)), SIDES), min_size=3, max_size=3))
    frames, code = (
        draw(st.sampled_from((1, 1, 0, 2, -1))),
        draw(st.sampled_from((0, 1, 3, 4, 2, 9))),
    )
    numbers = [2.0, 2, 2, -1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0]
    for place in draw(st.lists(st.integers(0, 14), max_size=3)):
        numbers[place] = draw(SINGLES)
    good = draw(st.sampled_from((1, 1, 0, -1)))
    head = struct.pack(">7ih15f", 1, *sides, frames, code, 0, good, *numbers)
    return draw(_packed(head.ljust(284, b"\0"), paired=False, name="scan.mgh"))


@st.composite
def _packed(draw: Draw, head: bytes, *, paired: bool, name: str = "scan.nii") -> Files:
    """Voxels behind a header, in the same file or beside it, perhaps packed."""
    kind = draw(st.sampled_from(("<i2", "<f4", "u1")))
    size = draw(st.sampled_from((0, 100, 512, 792, 1331)))
    body = (np.arange(size) % 120).astype(kind).tobytes()
    files = {"scan.hdr": head, "scan.img": body} if paired else {name: head + body}
    return {k: gzip.compress(v, 1) for k, v in files.items()} if draw(st.booleans()) else files


def _encode(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


@st.composite
def table(
    draw: Draw, name: str = "cohort.csv", needed: tuple[str, ...] = ("id", "age", "path")
) -> Files:
    """Tables: encodings, marks, line ends, delimiters, quotes, double columns, odd cells."""
    header = [*needed, *draw(st.lists(NAMES, max_size=3))]
    if draw(st.integers(0, 4)) == 0:
        header = draw(st.lists(NAMES, max_size=6))
    plain = st.sampled_from(("a", "b", "30", "41.5", "a.nii", "M", "2"))
    cells = st.lists(st.one_of(plain, TEXT_CELLS), max_size=len(header) + 1)
    rows = [header, *draw(st.lists(cells, max_size=5))]
    return {name: draw(_written(rows))}


@st.composite
def _written(draw: Draw, rows: list[list[str]]) -> bytes:
    delimiter, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(("\n", "\r\n", "\r")))
    quoted = draw(st.booleans())

    def cell(text: str) -> str:
        needs = quoted and any(mark in text for mark in (delimiter, '"', "\n", "\r"))
        return '"' + text.replace('"', '""') + '"' if needs else text

    text = end.join(delimiter.join(map(cell, row)) for row in rows) + draw(
        st.sampled_from(("", end))
    )
    return _encode(text, draw(st.sampled_from(ENCODINGS)))


@st.composite
def bids(draw: Draw) -> Files:
    """BIDS folders: two tables of people, odd names of subjects, sessions and runs."""
    label = st.sampled_from(("1", "01", "a", "ü", "1_2", "", "1.5", "x" * 60))
    files: dict[str, bytes] = {}
    for _ in range(draw(st.integers(0, 3))):
        subject, session, run = (
            draw(label),
            draw(label),
            draw(st.sampled_from(("", "1", "02", "²"))),
        )
        stem = f"sub-{subject}" + (f"_ses-{session}" if session else "")
        place = f"sub-{subject}/" + (f"ses-{session}/" if session else "") + "anat/"
        files[f"{place}{stem}{f'_run-{run}' if run else ''}_T1w.nii.gz"] = b"{}"
    people = draw(table("participants.tsv", ("participant_id", "age", "session_id")))
    sessions = draw(table("sub-1/sub-1_sessions.tsv", ("session_id", "age")))
    return files | dict(people) | dict(sessions)


@st.composite
def predictions(draw: Draw) -> Files:
    """Prediction tables of enough people, with odd cells, columns left out and columns twice."""
    lines = draw(st.sampled_from(prediction_seeds()))["predictions.csv"].decode().splitlines()
    rows = [line.split(",") for line in lines]
    for _ in range(draw(st.integers(0, 3))):
        row, column = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(rows[0]) - 1))
        rows[row][column] = draw(NAMES if row == 0 else TEXT_CELLS)
    if draw(st.integers(0, 3)) == 0:
        column, cell = draw(st.integers(0, len(rows[0]) - 1)), draw(TEXT_CELLS)
        rows[1:] = [[*row[:column], cell, *row[column + 1 :]] for row in rows[1:]]
    rows = rows[: draw(st.sampled_from((len(rows), len(rows), 1, 2, 5)))]
    text = io.StringIO()
    text.writelines(",".join(cells) + "\n" for cells in rows)
    return {"predictions.csv": _encode(text.getvalue(), draw(st.sampled_from(ENCODINGS)))}


@st.composite
def _changed(draw: Draw, content: Any) -> Any:
    """A tree of JSON with one or two places changed, taken away or added."""
    for _ in range(draw(st.integers(1, 2))):
        at = content
        while isinstance(at, dict | list) and at:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = draw(st.sampled_from(keys))
            if not (isinstance(at[key], dict | list) and at[key]) or draw(st.integers(0, 3)) == 0:
                if draw(st.integers(0, 5)) == 0:
                    del at[key]
                elif isinstance(at, dict) and draw(st.integers(0, 5)) == 0:
                    at[draw(st.text(max_size=6))] = draw(JSON)
                else:
                    at[key] = draw(JSON)
                break
            at = at[key]
    return content


@st.composite
def settings(draw: Draw) -> Files:
    """Settings with values of other kinds."""
    seed = draw(st.sampled_from(yaml_seeds()))["config.yaml"]
    return {"config.yaml": _yaml(draw(_changed(yaml.safe_load(seed))))}


@st.composite
def plans(draw: Draw) -> Files:
    """Plans of studies and races with values of other kinds."""
    files = study_seeds()[0]
    return {name: _yaml(draw(_changed(yaml.safe_load(text)))) for name, text in files.items()}


def _yaml(content: Any) -> bytes:
    return _encode(yaml.safe_dump(content, allow_unicode=True), "utf-8")


@st.composite
def bundle(draw: Draw) -> Files:
    """Bundles whose facts, settings or manifest say something else, rightly signed."""
    files, name = dict(bundle_seed()), draw(st.sampled_from(("bundle.json", "config.yaml")))
    if name == "config.yaml":
        files[name] = _yaml(draw(_changed(yaml.safe_load(files[name]))))
    else:
        files[name] = json.dumps(draw(_changed(json.loads(files[name])))).encode()
    if draw(st.integers(0, 3)) == 0:
        manifest = draw(_changed(json.loads(files["manifest.json"])))
        files["manifest.json"] = json.dumps(manifest).encode()
    return sign(files)


@st.composite
def events(draw: Draw) -> Files:
    """Lines of any JSON among events of a run."""
    (name, content), *_ = event_seeds()[0].items()
    lines = [json.loads(line) for line in content.splitlines()]
    lines = draw(st.lists(st.one_of(st.sampled_from(lines).flatmap(_copied), JSON), max_size=4))
    return {name: "".join(json.dumps(line) + "\n" for line in lines).encode()}


def _copied(event: Any) -> st.SearchStrategy[Any]:
    return st.builds(lambda text: text, _changed(json.loads(json.dumps(event))))


FILTER_WORDS = st.sampled_from(
    (
        *("age", "sex", "CDR", "site_a", "and", "or", "not", "in", "==", "!=", "<", ">=", "&", "|"),
        *(
            "~",
            "(",
            ")",
            "[",
            "]",
            ",",
            "'F'",
            "''",
            "0",
            "1.5",
            "-",
            "+",
            "*",
            "/",
            "1e999",
            "9" * 400,
        ),
        *("lambda:", ".", "__class__", "x", "if", "else", "{", "}", ":", "\\", "#", "None", "True"),
    )
)


def _filter(words: list[str]) -> Files:
    return {"filter.txt": " ".join(words).encode()}


STRUCTURES: dict[str, Callable[[], st.SearchStrategy[Files]]] = {
    "nifti": nifti,
    "mgh": mgh,
    "table": table,
    "bids": bids,
    "filter": lambda: st.lists(FILTER_WORDS, max_size=12).map(_filter),
    "predictions": predictions,
    "yaml": settings,
    "plans": plans,
    "signed_bundle": bundle,
    "events": events,
}
"""For each reader inputs of the right form, as a Hypothesis strategy."""
