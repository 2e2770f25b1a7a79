"""Lines of progress for a log, where there is no terminal to draw a bar on."""

import time
from collections.abc import Callable

EVERY_SECONDS = 60.0


class LogLines:
    """Tell how far long work is: a line a minute at most, none of what is done sooner.

    Parameters
    ----------
    write : callable
        Takes a line.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._start = self._last = time.monotonic()
        self._before: int | None = None

    def tell(self, title: str, done: int, total: int | None) -> None:
        """Write `title: 3 of 10, about 7 min left`, if it is time to.

        What was done when first told, as in a run that goes on, says nothing of the pace.
        """
        now = time.monotonic()
        if self._before is None:
            self._before = done
        if not total or now - self._last < EVERY_SECONDS:
            return
        self._last, line = now, f"{title}: {done} of {total}"
        if done > self._before:
            left = (total - done) * (now - self._start) / (done - self._before)
            line += f", about {max(1, round(left / 60))} min left"
        self._write(line)
