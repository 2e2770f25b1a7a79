"""Damage to bytes: flips, cuts, insertions, repeats, and numbers that headers trip over."""

import gzip
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1)
FLOATS = (0.0, -0.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"), -1.0, 352.0)
WORDS = (
    *(b"..", b"/etc/passwd", b"\0", b"\xff\xfe", b"!!python/object/apply:os.system", b"&a [*a]"),
    *(b"1e999", b"nan", b"-", b"'", b'"', b"{", b"[", b"\n", b"\r", b",", b";", b"\t"),
    *(b"0" * 40, b"9" * 400),
)


def damage(files: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, bytes]:
    """Damage one to three places of one or two files; now and then drop a file."""
    result = dict(files)
    names = sorted(result)
    for name in rng.choice(names, size=min(len(names), int(rng.integers(1, 3))), replace=False):
        result[str(name)] = _damage_file(result[str(name)], rng)
    if len(names) > 1 and rng.random() < 0.02:
        del result[str(rng.choice(names))]
    return result


def _damage_file(content: bytes, rng: np.random.Generator) -> bytes:
    packed = content[:2] == b"\x1f\x8b" and rng.random() < 0.8
    if packed:  # damage what lies inside, and pack it rightly again
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            packed = False
    for _ in range(int(rng.integers(1, 4))):
        content = _damage_once(content, rng)
    return gzip.compress(content, 1) if packed else content


def _damage_once(content: bytes, rng: np.random.Generator) -> bytes:
    if not content:
        return bytes(rng.integers(0, 256, 4, dtype=np.uint8))
    # Headers lie at the front of files (at the end of zips): look there more often.
    front = rng.random()
    span = min(len(content), 600) if front < 0.7 else len(content)
    place = int(rng.integers(span)) if front < 0.9 else len(content) - 1 - int(rng.integers(span))
    changed = bytearray(content)
    kind = int(rng.integers(8))
    if kind == 0:
        changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        changed[place] = int(rng.integers(256))
    elif kind == 2:
        _put(changed, place, _number(rng))
    elif kind == 3:
        del changed[place:]
    elif kind == 4:
        del changed[place : place + int(rng.integers(1, 64))]
    elif kind == 5:
        changed[place:place] = _pick(WORDS, rng)
    elif kind == 6:
        changed[place:place] = changed[place : place + int(rng.integers(1, 200))]
    else:
        changed += bytes(rng.integers(0, 256, int(rng.integers(1, 64)), dtype=np.uint8))
    return bytes(changed)


def _number(rng: np.random.Generator) -> bytes:
    order = "<>"[int(rng.integers(2))]
    if rng.random() < 0.3:
        return struct.pack(f"{order}{'fd'[int(rng.integers(2))]}", _pick(FLOATS, rng))
    size = (1, 2, 4, 8)[int(rng.integers(4))]
    value = int(_pick(NUMBERS, rng)) % (1 << (8 * size))
    return value.to_bytes(size, "little" if order == "<" else "big")


def _put(content: bytearray, place: int, value: bytes) -> None:
    content[place : place + len(value)] = value


def _pick(items: Sequence[Any], rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))]
