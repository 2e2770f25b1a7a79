"""Files that are either whole or absent, their hashes, and what they hold as JSON or YAML."""

import hashlib
import json
import os
import secrets
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import yaml

from brainage.errors import BrainageError

# What numpy, zipfile and a look into the content raise on damaged bytes.
DAMAGE_ERRORS = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError),
    *(MemoryError, RecursionError, SyntaxError, tokenize.TokenError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)
# Aliases let a few lines of YAML stand for endlessly many values.
MAX_YAML_VALUES = 100_000

_DIGEST_BYTES = 32


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it.

    Missing parent folders are made; an older file of that name is replaced.

    Raises
    ------
    BrainageError
        If the file cannot be written.
    """
    # The temporary file lies beside the target: os.replace is atomic only within a file system.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        remedy = "Check the folder, its permissions and the free disk space."
        raise BrainageError(str(path), f"cannot be written ({error.strerror}).", remedy) from error
    finally:
        _remove(temporary)


def atomic_write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as `atomic_write_bytes` does; line ends stay as they are.

    Raises
    ------
    BrainageError
        If the file cannot be written.
    """
    # Names of Linux files need not be UTF-8: their odd bytes come as surrogates and go back so.
    atomic_write_bytes(path, text.encode("utf-8", errors="surrogateescape"))


def write_sealed(path: Path, payload: bytes) -> None:
    """Write a file that ends with the SHA-256 of what stands before it.

    Raises
    ------
    BrainageError
        If the file cannot be written.
    """
    atomic_write_bytes(path, payload + hashlib.sha256(payload).digest())


def read_sealed(path: Path) -> bytes | None:
    """What `write_sealed` wrote; None where the file is missing or damaged."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    payload, digest = stored[:-_DIGEST_BYTES], stored[-_DIGEST_BYTES:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def parse_json(text: str | bytes) -> Any:
    """Value of a JSON text.

    Raises
    ------
    ValueError
        If it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def parse_yaml(text: str) -> Any:
    """Value of a YAML text, made of plain types alone.

    Raises
    ------
    ValueError
        With one line that says why it is not YAML, is nested too deeply, or stands for more than
        `MAX_YAML_VALUES` values.
    """
    try:
        content = yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    # PyYAML passes on what Python says of impossible dates and endless numbers.
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, AttributeError) as error:
        raise ValueError((str(error) or type(error).__name__).splitlines()[0]) from error
    left, count = [content], 0
    while left:
        value = left.pop()
        count += 1
        if count > MAX_YAML_VALUES:
            raise ValueError(f"stands for more than {MAX_YAML_VALUES} values")
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple | set):
            left += value
    return content


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of data as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content as 64 hexadecimal digits, read in pieces.

    Raises
    ------
    BrainageError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BrainageError(str(path), f"cannot be read ({error.strerror}).") from error


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        # The folder could not be made or was taken away: the first error tells more.
        return
