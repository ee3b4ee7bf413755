"""Owns the recipe section `checkpoint`, and when a save is due."""

from dataclasses import dataclass

from carryover.checkpoint.retention import Keep
from carryover.ground.config import check, key


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
    keep_last: int = key(2, help="How many newest ones stay.", allowed="at least 1", identity=False, mutable=True)
    keep_best: int = key(
        1, help="How many checkpoints with the best scores stay.", allowed="at least 0", identity=False, mutable=True
    )

    def __post_init__(self) -> None:
        check(self.every_steps is None or self.every_steps >= 1, "every_steps", self.every_steps, "at least 1")
        check(self.every_seconds is None or self.every_seconds > 0, "every_seconds", self.every_seconds, "above 0")
        check(self.max_lost_seconds > 0, "max_lost_seconds", self.max_lost_seconds, "above 0")
        check(self.keep_last >= 1, "keep_last", self.keep_last, "at least 1")
        check(self.keep_best >= 0, "keep_best", self.keep_best, "at least 0")

    def keep(self, *, greater_is_better: bool) -> Keep:
        """Return the retention for scores of this direction."""
        return Keep(last=self.keep_last, best=self.keep_best, greater_is_better=greater_is_better)


class Due:
    """Says when the next save is due; one rank asks and tells the others, as clocks differ.

    Fixed by steps, by seconds, or by both (whichever comes first); where neither is given, so often that a kill costs
    at most `max_lost_seconds`: the next save starts so early that it is done in time, measured by the last one, yet
    never so often that saving takes more than half of the time.

    Args:
        step, now: where the attempt starts (optimizer step; seconds of a monotonic clock).
    """

    def __init__(self, config: CheckpointConfig, *, step: int, now: float) -> None:
        self._config = config
        self._step = step
        self._now = now
        self._cost = 0.0

    def due(self, *, step: int, now: float) -> bool:
        """Tell whether to save at this step boundary."""
        config = self._config
        if step <= self._step:
            return False
        if config.every_steps is None and config.every_seconds is None:
            wait = max(config.max_lost_seconds - self._cost, self._cost)
            return now - self._now >= wait
        by_steps = config.every_steps is not None and step - self._step >= config.every_steps
        by_seconds = config.every_seconds is not None and now - self._now >= config.every_seconds
        return by_steps or by_seconds

    def saved(self, *, step: int, now: float, seconds: float) -> None:
        """Note a save that ended at `now` and took `seconds`."""
        self._step, self._now, self._cost = step, now, seconds
