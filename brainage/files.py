"""Whole or absent files, hashes, a run's own folder, and what files hold as JSON or YAML."""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from brainage.errors import BrainageError

# What numpy, zipfile and a look into the content raise on damaged bytes; RuntimeError: a part that
# is encrypted, of unknown compression, or nested without end.
DAMAGE_ERRORS = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError),
    *(MemoryError, OverflowError, SyntaxError, tokenize.TokenError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)
# Aliases let a few lines of YAML stand for endlessly many values.
MAX_YAML_VALUES = 100_000

# In an output folder while a run writes there.
LOCK = ".brainage.lock"

_DIGEST_BYTES = 32
# 4 digits name the machine, 8 the process; older versions wrote 16 digits that name neither.
_NAMED_DIGITS = 24
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}([0-9a-f]{8})?\.tmp")
# No command writes deeper than this below its output folder.
_SWEPT_LEVELS = 4


_FETCH = {
    "Git LFS": "Run `git lfs pull` in its folder.",
    "git-annex": "Run `datalad get` (or `git annex get`) on it.",
}


def explain_pointer(program: str) -> tuple[str, str]:
    """Return problem and remedy for a file that stands for one of Git LFS or git-annex."""
    return f"is a {program} pointer: the image itself was not downloaded.", _FETCH[program]


def explain_link(path: Path) -> tuple[str, str] | None:
    """Return problem and remedy for a link to a file that is not there; None for anything else."""
    if not path.is_symlink() or path.exists():
        return None
    if "annex/objects/" in str(path.readlink()).replace("\\", "/"):
        return explain_pointer("git-annex")
    return "is a link to a file that is not there.", "Check the path."


def shipped_folder(name: str) -> Path:
    """Return a folder that ships as data: in the installed package, or in the repository.

    Parameters
    ----------
    name : str
        `app` or `configs`.
    """
    installed = Path(__file__).parent / f"_{name}"
    return installed if installed.is_dir() else Path(__file__).parents[1] / name


def default_cache() -> Path:
    """Folder of prepared arrays: $BRAINAGE_CACHE, or brainage under the user's cache folder."""
    if folder := os.environ.get("BRAINAGE_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "brainage"


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it.

    Missing parent folders are made; an older file of that name is replaced.

    Raises
    ------
    BrainageError
        If the file cannot be written.
    """
    # The temporary file lies beside the target: os.replace is atomic only within a file system.
    temporary = path.parent / temporary_name()
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


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error comes from a disk, or a user's share of it, that is full."""
    cause = error.__cause__ or error.__context__
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or (cause is not None and is_disk_full(cause))


def remove_old(path: Path) -> None:
    """Remove a file of an earlier run, if there is one.

    Raises
    ------
    BrainageError
        If it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        problem = f"cannot be removed ({error.strerror})."
        raise BrainageError(str(path), problem, "Check its permissions.") from error


def write_sealed(path: Path, payload: bytes) -> None:
    """Write a file that ends with the SHA-256 of what stands before it.

    Raises
    ------
    BrainageError
        If the file cannot be written.
    """
    atomic_write_bytes(path, seal(payload))


def seal(payload: bytes) -> bytes:
    """Bytes followed by their SHA-256."""
    return payload + hashlib.sha256(payload).digest()


def read_sealed(path: Path) -> bytes | None:
    """Return what `write_sealed` wrote; None where the file is missing or damaged."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    return unseal(stored)


def unseal(stored: bytes) -> bytes | None:
    """Return what was sealed; None where a bit of it or of its seal has changed."""
    payload, digest = stored[:-_DIGEST_BYTES], stored[-_DIGEST_BYTES:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def temporary_name() -> str:
    """Name an unfinished file or folder by machine and process; `is_temporary` knows it."""
    return f".{_machine()}{os.getpid():08x}{secrets.token_hex(6)}.tmp"


def is_temporary(path: Path) -> bool:
    """Tell whether a file was never finished."""
    return _TEMPORARY.fullmatch(path.name) is not None


@lru_cache(maxsize=1)
def _machine() -> str:
    return sha256_bytes(socket.gethostname().encode())[:4]


@contextlib.contextmanager
def hold_lock(path: Path, *, waits: bool = True) -> Iterator[None]:
    """Hold a lock file, which is made if it is missing and stays.

    The lock is the system's: it ends with the process, however that ends. File systems that know
    no locks are used without.

    Raises
    ------
    BlockingIOError
        If another process holds it and `waits` is off.
    """
    from filelock import FileLock, Timeout  # slow to import, and most commands hold nothing

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(path, blocking=waits, fallback_to_soft=False))
        except Timeout as error:
            raise BlockingIOError(str(path)) from error
        except (OSError, NotImplementedError):
            pass
        yield


@contextlib.contextmanager
def hold_folder(folder: Path, option: str = "--output") -> Iterator[None]:
    """Have an output folder to oneself; what a killed run left unfinished in it is removed.

    The folder is made if it is missing, and then removed again if nothing was written. Errors name
    the option that it was given by.

    Raises
    ------
    BrainageError
        If another run holds it, or it cannot be made.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"cannot be used as output folder ({error.strerror})."
        raise BrainageError(str(folder), problem, f"Choose another {option}.") from error
    with contextlib.ExitStack() as held:
        if is_new:
            held.callback(_remove_empty, folder)
        try:
            held.enter_context(hold_lock(folder / LOCK, waits=False))
        except BlockingIOError as error:
            remedy = f"Wait for its end or choose another {option}."
            raise BrainageError(str(folder), "is in use by another run.", remedy) from error
        held.callback(_remove, folder / LOCK)  # who opened it meanwhile sees that it is gone
        _sweep(folder, _SWEPT_LEVELS)
        yield


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # something was written
        folder.rmdir()


def _sweep(folder: Path, levels: int) -> None:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if is_temporary(path) and path.is_file():
                _remove(path)
            elif levels > 1 and path.is_dir() and not path.is_symlink():
                _sweep(path, levels - 1)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed runs of this machine left unfinished in a folder that others may use."""
    import psutil

    for path in filter(is_temporary, folder.glob(f".{_machine()}*.tmp")):
        if len(path.stem) < _NAMED_DIGITS or psutil.pid_exists(int(path.stem[5:13], 16)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            _remove(path)


def reserve(descriptor: int, size: int) -> None:
    """Claim the disk space of a file that will be memory-mapped.

    Without it a full disk would end the process by a signal (SIGBUS) when a page is written.

    Raises
    ------
    OSError
        If there is not so much space.
    """
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)


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


@cache
def _yaml_loader() -> Any:
    """YAML whose numbers are decimal, and whose keys stand once: the last one would win.

    PyYAML takes 012 for ten, 1:30 for ninety and 1e-3 for text, as YAML 1.1 has it.
    """
    import yaml  # not where a model runs without the other packages

    whole, real = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{twice[0]} stands twice")
            return super().construct_mapping(node, deep)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag not in (whole, real)]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(whole, re.compile(r"[-+]?\d+$"), list("-+0123456789"))
    number = r"[-+]?((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    Loader.add_implicit_resolver(real, re.compile(number), list("-+.0123456789"))
    Loader.add_constructor(whole, lambda loader, node: int(node.value))
    return Loader


def parse_yaml(text: str) -> Any:
    """Value of a YAML text, made of plain types alone.

    Raises
    ------
    ValueError
        With one line that says why it is not YAML, is nested too deeply, or stands for more than
        `MAX_YAML_VALUES` values.
    """
    import yaml  # not where a model runs without the other packages

    try:
        content = yaml.load(text, _yaml_loader())
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
