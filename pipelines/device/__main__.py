"""Train, time and profile on a GPU within some minutes; the same command again goes on.

``python -m pipelines.device --data ../shared/data --output device --minutes 12``. Rehearse it with
``--device cpu --quick``.
"""

import time

STARTED = time.monotonic()  # imports take seconds of the minutes

import argparse  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from pipelines.device.budget import Budget  # noqa: E402
from pipelines.device.call import PARTS, Call, run  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.device", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="data root")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--minutes", type=float, default=12.0, help="of wall time, imports included"
    )
    parser.add_argument("--part", default=",".join(PARTS), help="some of: " + ",".join(PARTS))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--epochs", type=int, help="shorter trainings, labelled by their epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="tiny: does all of it run?")
    given = parser.parse_args(arguments)
    command = " ".join(["python -m pipelines.device", *(arguments or sys.argv[1:])])
    call = Call(
        data=given.data,
        output=given.output,
        seconds=60.0 * given.minutes,
        parts=tuple(given.part.split(",")),
        device=given.device,
        epochs=given.epochs,
        seed=given.seed,
        quick=given.quick,
        command=command,
    )
    return run(call, Budget(STARTED + call.seconds))


if __name__ == "__main__":
    sys.exit(main())
