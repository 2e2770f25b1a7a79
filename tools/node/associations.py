"""Send a node damaged associations, byte by byte, and see that it serves the next good one.

    python -m tools.node.associations --count 1000 --output associations.md

The promise: each damaged association ends within 10 s of its last byte and the time that silence
is allowed, a good one in between is answered within 10 s, the process lives, its memory grows by
less than 256 MB, and no thread and no connection is left at the end. Association N is drawn from
seed N alone, from what a healthy sender sends: a C-ECHO and two C-STOREs in small PDUs.
"""

import argparse
import contextlib
import socket
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tests.dicom_helpers import make_head, write_series
from tests.node_helpers import call
from tools.fuzz.mutate import NUMBERS, damage
from tools.node.stand import NodeProcess, free_port, wait_for
from tools.pages import write_below_mark

IDLE_S, MOST_S, MOST_MB = 2.0, 10.0, 256
SENDERS, PART = 8, 50
HANGS = "still open"
_SMALL_PDU = 512
_NOISE = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")

Pdus = list[bytes]
Damage = Callable[[Pdus, np.random.Generator], bytes]


def record_talk() -> Pdus:
    """Return the PDUs of a healthy sender."""
    acceptor, sender, sent = AE("BRAINAGE"), AE("SCANNER"), Pdus()
    acceptor.maximum_pdu_size = _SMALL_PDU
    for kind in (Verification, MRImageStorage):
        acceptor.add_supported_context(kind, ExplicitVRLittleEndian)
        sender.add_requested_context(kind, ExplicitVRLittleEndian)
    port = free_port()
    server = acceptor.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0)]
    )
    handlers: list[evt.EventHandlerType] = [(evt.EVT_DATA_SENT, lambda e: sent.append(e.data))]
    association = sender.associate("127.0.0.1", port, ae_title="BRAINAGE", evt_handlers=handlers)
    with tempfile.TemporaryDirectory() as folder:
        files = write_series(Path(folder), make_head((8, 9, 21), 9.0))[:2]
        association.send_c_echo()
        for path in files:
            association.send_c_store(pydicom.dcmread(path))
    association.release()
    if server is not None:
        server.shutdown()
    return sent


def _pick(pdus: Pdus, rng: np.random.Generator) -> int:
    return int(rng.integers(len(pdus)))


def change_bytes(pdus: Pdus, rng: np.random.Generator) -> bytes:
    """Flip, cut, repeat bytes of one or two PDUs."""
    named = {f"{number:03d}": pdu for number, pdu in enumerate(pdus)}
    return b"".join(pdu for _, pdu in sorted(damage(named, rng).items()))


def cut(pdus: Pdus, rng: np.random.Generator) -> bytes:
    """End anywhere."""
    whole = b"".join(pdus)
    return whole[: int(rng.integers(len(whole)))]


def change_length(pdus: Pdus, rng: np.random.Generator) -> bytes:
    """Announce another length, up to 4 GiB, of a PDU or of the first item within it."""
    at, place = _pick(pdus, rng), (2, 6)[int(rng.integers(2))]
    length = (NUMBERS[int(rng.integers(len(NUMBERS)))] % 2**32).to_bytes(4, "big")
    changed = pdus[at][:place] + length + pdus[at][place + 4 :]
    return b"".join([*pdus[:at], changed, *pdus[at + 1 :]])


def reorder(pdus: Pdus, rng: np.random.Generator) -> bytes:
    """Send PDUs in another order, some twice, some not at all."""
    first = pdus[: int(rng.integers(2))]
    return b"".join([*first, *(pdus[_pick(pdus, rng)] for _ in range(len(pdus)))])


def interleave(pdus: Pdus, rng: np.random.Generator) -> bytes:
    """Mix the fragments of one message with those of another, or pieces of two PDUs."""
    if rng.random() < 0.5:
        middle = [pdus[1:-1][number] for number in rng.permutation(len(pdus) - 2)]
        return b"".join([pdus[0], *middle, pdus[-1]])
    one, two, size = _pick(pdus, rng), _pick(pdus, rng), int(rng.integers(1, 40))
    pieces = [
        pdus[n][start : start + size] for start in range(0, 4 * size, size) for n in (one, two)
    ]
    return b"".join([pdus[0], *pieces, *pdus[1:]])


def send_noise(pdus: Pdus, rng: np.random.Generator) -> bytes:
    """Send something else: noise, HTTP, TLS; alone or within an association."""
    noise = (*_NOISE, rng.bytes(int(rng.integers(1, 4000))))[int(rng.integers(3))]
    return (b"", pdus[0])[int(rng.integers(2))] + noise


def overfill(pdus: Pdus, rng: np.random.Generator) -> bytes:
    """Send an object without end, or very many associations' worth of PDUs."""
    if rng.random() < 0.5:
        return pdus[0] + b"".join(pdus[1:-1]) * 50
    endless = b"\x01\x00" + bytes(2**16 - 6)  # a fragment of a data set, and never the last
    item = len(endless).to_bytes(4, "big") + pdus[2][10:11] + endless[1:]
    pdu = b"\x04\x00" + len(item).to_bytes(4, "big") + item
    return b"".join(pdus[:4]) + pdu * 40


DAMAGES: tuple[Damage, ...] = (
    change_bytes, cut, change_length, reorder, interleave, send_noise, overfill,
)  # fmt: skip


def attack(port: int, pdus: Pdus, number: int) -> tuple[str, float]:
    """Send one damaged association; returns how it ended, and after how long."""
    rng = np.random.default_rng(number)
    content = DAMAGES[number % len(DAMAGES)](pdus, rng)
    ending = ("close", "silence", "half-close")[int(rng.integers(3))]
    try:
        connection = socket.create_connection(("127.0.0.1", port), MOST_S)
    except TimeoutError:
        return HANGS, MOST_S
    with connection:
        connection.settimeout(IDLE_S + MOST_S)
        try:
            connection.sendall(content)
        except OSError:
            return "hung up on", 0.0
        start = time.monotonic()
        if ending == "close":
            return "closed by us", 0.0
        if ending == "half-close":
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        return read_to_end(connection), time.monotonic() - start


def read_to_end(connection: socket.socket) -> str:
    """Read until the other side closes; returns how it did."""
    end = time.monotonic() + IDLE_S + MOST_S
    while time.monotonic() < end:
        try:
            if not connection.recv(2**16):
                return "closed"
        except TimeoutError:
            break
        except OSError:
            return "closed"
    return HANGS


def time_echo(port: int) -> float:
    """Return how long a good association takes, seconds; infinite if it fails."""
    start = time.monotonic()
    with call(port) as association:
        good = association.is_established and association.send_c_echo().get("Status") == 0
    return time.monotonic() - start if good else float("inf")


def run_attacks(node: NodeProcess, count: int, first: int = 0) -> tuple[str, list[str]]:
    """Send them all; returns a text for a page, and what is wrong."""
    pdus, echoes, wrong = record_talk(), [time_echo(node.port)], list[str]()
    before = node.status()
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    slowest: dict[str, float] = defaultdict(float)
    with ThreadPoolExecutor(SENDERS) as pool:
        for start in range(first, first + count, PART):
            numbers = range(start, min(start + PART, first + count))
            attacked = list(pool.map(lambda number: attack(node.port, pdus, number), numbers))
            for number, (end, took) in zip(numbers, attacked, strict=True):
                kind = DAMAGES[number % len(DAMAGES)].__name__.replace("_", " ")
                if end == HANGS:  # once more alone: a machine that was held up must not count
                    again, took = attack(node.port, pdus, number)
                    end = f"{again}, when alone"
                    wrong += [f"association {number} ({kind}) hangs"] if again == HANGS else []
                ends[kind][end] += 1
                slowest[kind] = max(slowest[kind], took)
            echoes.append(time_echo(node.port))
            wrong += [f"no good association after {start}"] if echoes[-1] > MOST_S else []
    # Studies that came in part are still being settled, which opens files.
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: not _left(before, node.status()), 3 * MOST_S, "threads and files end")
    after = node.status()
    wrong += _left(before, after)
    more_mb = (after["VmHWM"] - before["VmRSS"]) // 1024
    wrong += [f"{more_mb} MB more"] if more_mb > MOST_MB else []
    rows = []
    for kind, ended in ends.items():
        told = ", ".join(f"{count} {end}" for end, count in ended.items())
        rows.append(f"| {kind} | {ended.total()} | {told} | {slowest[kind]:.1f} |")
    head = ["| damage | associations | ended | slowest s |", "|---|---|---|---|"]
    told = f"{len(echoes)} good associations in between, the slowest in {max(echoes):.1f} s; "
    told += f"{more_mb} MB more at most. Wrong: {len(wrong)}."
    return "\n".join([*head, *rows, "", told, ""]), wrong


def _left(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Return what there is more of than before."""
    names = ("Threads", "files")
    return [f"{n}: {before[n]} before, {after[n]} after" for n in names if after[n] > before[n]]


def main() -> None:
    """Run the attacks on a node of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="page that gets the table")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="node-"))
    bounds = ["--quiet", "1", "--idle", str(IDLE_S), "--max-associations", "16"]
    bounds += ["--max-object-mb", "1", "--keep-free-mb", "1"]
    node = NodeProcess(work / "queue", free_port(), work / "node.log", bounds)
    try:
        text, wrong = run_attacks(node, options.count, options.first)
        wrong += [line for line in node.log.read_text().splitlines() if "Traceback" in line]
    finally:
        node.process.kill()
    write_below_mark(options.output, text)
    print(text, *wrong, sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
