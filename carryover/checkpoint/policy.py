"""Owns the recipe section `checkpoint`, and when a save is due."""

import math
from dataclasses import dataclass

from carryover.checkpoint.retention import Keep
from carryover.ground.config import check, key

# Before the first save is measured: early enough that a young attempt is worth something.
_FIRST_COST = 0.05


@dataclass(frozen=True)
class CheckpointConfig:
    """How often checkpoints are made and how many stay; nothing here can change a result."""

    every_steps: int | None = key(
        None, help="Save after this many optimizer steps.", allowed="at least 1", identity=False, mutable=True
    )
    every_seconds: float | None = key(
        None, help="Save after this many seconds.", allowed="above 0", identity=False, mutable=True
    )
    max_lost_seconds: float = key(
        60.0,
        help="Without a fixed interval: the most seconds of work that a kill may cost.",
        allowed="above 0",
        identity=False,
        mutable=True,
    )
    preemption_mtbf_seconds: float = key(
        3600.0,
        help="Without a fixed interval: the mean time between preemptions that it is chosen for.",
        allowed="above 0",
        identity=False,
        mutable=True,
    )
    give_up_seconds: float = key(
        600.0,
        help="A failing save is tried again while training goes on; after this long without one, the attempt ends.",
        allowed="above 0",
        identity=False,
        mutable=True,
    )
    keep_last: int = key(2, help="How many newest ones stay.", allowed="at least 1", identity=False, mutable=True)
    keep_best: int = key(
        1,
        help="How many checkpoints with the best scores stay; while the run trains, at least as many as "
        "optimization.top_k needs.",
        allowed="at least 0",
        identity=False,
        mutable=True,
    )

    def __post_init__(self) -> None:
        check(self.every_steps is None or self.every_steps >= 1, "every_steps", self.every_steps, "at least 1")
        check(self.every_seconds is None or self.every_seconds > 0, "every_seconds", self.every_seconds, "above 0")
        check(self.max_lost_seconds > 0, "max_lost_seconds", self.max_lost_seconds, "above 0")
        mtbf = self.preemption_mtbf_seconds
        check(mtbf > 0, "preemption_mtbf_seconds", mtbf, "above 0")
        check(self.give_up_seconds > 0, "give_up_seconds", self.give_up_seconds, "above 0")
        check(self.keep_last >= 1, "keep_last", self.keep_last, "at least 1")
        check(self.keep_best >= 0, "keep_best", self.keep_best, "at least 0")

    def keep(self, *, greater_is_better: bool) -> Keep:
        """Return the retention for scores of this direction."""
        return Keep(last=self.keep_last, best=self.keep_best, greater_is_better=greater_is_better)


class Due:
    """Says when the next save is due; one rank asks and tells the others, as clocks differ.

    Fixed by steps, by seconds, or by both (whichever comes first). Where neither is given, by Young's interval
    sqrt(2 * cost * mtbf) (Young, CACM 17(9), 1974; Daly, FGCS 22(3), 2006), with the cost measured at the last save:
    the time that training stood still, and the time of writing, which shares the cores and the network with training.
    A kill costs at most `max_lost_seconds`: work done while a save is being written is lost with it. Never so often
    that one save would meet the next.

    Args:
        step, now: where the attempt starts (optimizer step; seconds of a monotonic clock).
    """

    def __init__(self, config: CheckpointConfig, *, step: int, now: float) -> None:
        self._config = config
        self._step = step
        self._now = now
        self._blocked = _FIRST_COST
        self._writing = 0.0

    @property
    def interval(self) -> float:
        """Return the seconds between saves where no interval is fixed."""
        cost = self._blocked + self._writing
        young = math.sqrt(2 * cost * self._config.preemption_mtbf_seconds)
        return max(min(young, self._config.max_lost_seconds - self._writing), self._writing)

    def due(self, *, step: int, now: float) -> bool:
        """Tell whether to save at this step boundary."""
        config = self._config
        if step <= self._step:
            return False
        if config.every_steps is None and config.every_seconds is None:
            return now - self._now >= self.interval
        by_steps = config.every_steps is not None and step - self._step >= config.every_steps
        by_seconds = config.every_seconds is not None and now - self._now >= config.every_seconds
        return by_steps or by_seconds

    def taken(self, *, step: int, now: float, blocked: float) -> None:
        """Note that the state of `step` was taken at `now`, for which training stood still for `blocked` seconds."""
        self._step, self._now = step, now
        self._blocked = blocked

    def written(self, *, seconds: float) -> None:
        """Note that the last save was written, `seconds` after its state was taken."""
        self._writing = seconds
