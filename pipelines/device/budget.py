"""Minutes of one call, shared out among its parts."""

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


@dataclass(frozen=True)
class Budget:
    """Time that is left until an end.

    Attributes
    ----------
    end : float
        Reading of the clock at which the time is over.
    clock : callable
        Seconds, from any zero.

    Examples
    --------
    >>> budget = Budget.of(100.0, clock=lambda: 5.0)
    >>> budget.left(), budget.until(0.6, 100.0).left()
    (100.0, 60.0)
    """

    end: float
    clock: Clock = time.monotonic

    @classmethod
    def of(cls, seconds: float, clock: Clock = time.monotonic) -> "Budget":
        """Begin a budget of so many seconds."""
        return cls(clock() + seconds, clock)

    def left(self) -> float:
        """Seconds that are left; negative when the time is over."""
        return self.end - self.clock()

    def until(self, share: float, seconds: float) -> "Budget":
        """Budget that ends when a share of all `seconds` of this one is used up.

        What a part does not need falls to the next one, whose end stays where it is.
        """
        return Budget(self.end - (1.0 - share) * seconds, self.clock)

    def allows(self, seconds: float) -> bool:
        """Tell whether work of so many seconds ends in time."""
        return self.left() >= max(0.0, seconds) and self.left() > 0
