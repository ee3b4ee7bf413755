"""Owns the recipe section `checkpoint`, and when a save is due."""

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

from carryover.checkpoint.retention import Keep
from carryover.ground.config import check, key

# Before the first save is measured: early enough that a young attempt is worth something.
_FIRST_COST = 0.05
# The part of the time that saving may cost, and the part that saves may be on their way: the rest of what disk and
# network can do is for reading.
_COST, _ON_THEIR_WAY = 0.005, 0.25
# A history with a record a second would be of no use, and an object store takes money for each request.
_LEAST_SECONDS, _LEAST_SECONDS_OVER_NETWORK = 2.0, 10.0
# As many steps say how long one takes, and as many saves what one costs.
_STEPS, _FEWEST_STEPS, _SAVES = 31, 4, 5


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

    Fixed by steps, by seconds, or by both (whichever comes first). Where neither is given:

        cost       what the last saves cost, their median: the time that the loop stood still, and how much longer the
                   steps beside them took than others do (so cores that are scarce count, and spare ones don't)
        so often   that saving costs 0.5 % of the time; where that is rarer than Young's interval sqrt(2 * cost * mtbf)
                   (Young, CACM 17(9), 1974; Daly, FGCS 22(3), 2006), as that says: work lost would cost more
        at least   every `max_lost_seconds`, less the time of writing: what is done meanwhile is lost with a kill too
        at most    a quarter of the time is spent writing; one save in 2 s, in 10 s over the network; never two at once

    Args:
        step, now: where the attempt starts (optimizer step; seconds of a monotonic clock).
        over_network: whether it is an object store that is written to.
    """

    def __init__(self, config: CheckpointConfig, *, step: int, now: float, over_network: bool = False) -> None:
        self._config = config
        self._step = step
        self._now = now
        self._before = (step, now)
        self._least = _LEAST_SECONDS_OVER_NETWORK if over_network else _LEAST_SECONDS
        self._writing = 0.0
        self._beside = _Beside(now)

    @property
    def interval(self) -> float:
        """Return the seconds between saves where no interval is fixed."""
        cost = self._beside.cost
        young = math.sqrt(2 * cost * self._config.preemption_mtbf_seconds)
        wanted = max(min(cost / _COST, young), self._writing / _ON_THEIR_WAY, self._least)
        return max(min(wanted, self._config.max_lost_seconds - self._writing), self._writing)

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

    def stepped(self, *, now: float, checks: int) -> None:
        """Note that a step is done; `checks` is how many validations were made until now."""
        self._beside.stepped(now, checks)

    def taken(self, *, step: int, now: float) -> None:
        """Note that the state of `step` was taken at `now`."""
        self._before = (self._step, self._now)
        self._step, self._now = step, now
        self._beside.begin()

    def blocked(self, seconds: float) -> None:
        """Note that training stood still for the save on its way."""
        self._beside.blocked += seconds

    def dropped(self) -> None:
        """Note that the save on its way comes to nothing: the next step is due."""
        self._step, self._now = self._before[0], -math.inf

    def written(self, *, seconds: float, as_others: bool = True) -> None:
        """Note that the save on its way is there, `seconds` after its state was taken; may be another thread.

        Args:
            as_others: the next ones will be written the same way; if not, the steps beside this one tell nothing.
        """
        self._writing = seconds
        self._beside.ended, self._beside.as_others = True, as_others


class _Beside:
    """How much longer steps take beside a save than others, save by save."""

    def __init__(self, now: float) -> None:
        self.blocked = 0.0
        self.ended, self.as_others = False, True
        self._now, self._checks = now, 0
        self._steps: deque[float] = deque(maxlen=_STEPS)
        self._costs: deque[float] = deque(maxlen=_SAVES)
        self._longer: float | None = None
        self._usual: float | None = None

    @property
    def cost(self) -> float:
        """Return the seconds that a save costs."""
        if self._longer is not None and not self._costs:
            return max(self.blocked, self._longer)
        return median(self._costs) if self._costs else _FIRST_COST

    def begin(self) -> None:
        """Count from now on what a save costs."""
        self.blocked, self.ended, self._longer = 0.0, False, 0.0
        self._usual = median(self._steps) if len(self._steps) >= _FEWEST_STEPS else None

    def stepped(self, now: float, checks: int) -> None:
        """Take in a step; one with a validation in it says nothing."""
        took, validated = now - self._now, checks != self._checks
        self._now, self._checks = now, checks
        if self._longer is None:
            if not validated:
                self._steps.append(took)
            return
        if self._usual is not None and not validated:
            self._longer += took - self._usual
        if self.ended:
            # What the loop stood still is in the steps, but for the one with a validation.
            self._costs.append(max(self.blocked, self._longer if self.as_others else 0.0))
            self._longer, self.ended = None, False
