"""The child's side: ``python -m brainage.sandbox.child`` answers a task a line.

A task is a JSON object naming a function (``module:name``) that takes and returns a JSON object.
"""

import importlib
import json
import os
import sys
import threading
from queue import SimpleQueue

from brainage.types import Json

MAX_REASON = 300


def main(memory_mb: int) -> None:
    """Answer tasks from standard input until it closes."""
    _limit_memory(memory_mb)
    # Libraries may print: their output must not mix with the results.
    results = os.dup(1)
    os.dup2(2, 1)
    tasks: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read_tasks, args=(tasks,), daemon=True).start()
    while True:
        answer = json.dumps(run_task(json.loads(tasks.get()))).encode() + b"\n"
        while answer:
            answer = answer[os.write(results, answer) :]


def run_task(task: Json) -> Json:
    """Return result of a task, or the error that its function raised, as a JSON object."""
    module, _, name = task["function"].partition(":")
    try:
        return {"result": getattr(importlib.import_module(module), name)(task["argument"])}
    except MemoryError:
        return {"error": "needed more memory than it may have"}
    except Exception as error:  # whatever a scan provokes is a row of the ledger
        lines = str(error).strip().splitlines() or [""]
        return {"error": f"unexpected {type(error).__name__}: {lines[-1]}"[:MAX_REASON]}


def _read_tasks(tasks: "SimpleQueue[str]") -> None:
    for line in sys.stdin:
        tasks.put(line)
    # The parent is gone or done: what is still running has no reader.
    os._exit(0)


def _limit_memory(memory_mb: int) -> None:
    """Bound private writable memory, so that greed raises MemoryError before the system kills."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * 2**20, memory_mb * 2**20))


if __name__ == "__main__":
    main(int(sys.argv[1]))
