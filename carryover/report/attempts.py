"""Owns what is known of a run's attempts: when each lived, what it committed, and what was lost when it ended.

    claim   commit   commit   commit ~ ~ ~ ~ |        claim   commit ...
    |<------------- lived ------------------>|<-idle->|
                             |<--- lost ---->|         done again by the next attempt

The log says when an attempt began and each time that it committed. A killed one says nothing of its end: the
heartbeat, moved on every few seconds, tells the next claim how far it had come, so lost steps are known but for those
that fit between two beats; how long they took is reckoned from the pace of the steps before. Without a heartbeat
nothing is known of it.
"""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from carryover.checkpoint import owners
from carryover.checkpoint.heartbeat import INTERVAL, read_beat
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged
from carryover.checkpoint.log import Record
from carryover.report.curve import Curve

# Of a longer log, only what stands at the attempts' beginnings and ends is read: the page is drawn each minute while a
# run trains, and the curve tells of the commits.
MOST_RECORDS = 200
_READERS = 16
RUNNING, GONE = "no end known yet", "ended without a word: killed, or its machine was lost"


@dataclass(frozen=True)
class Commit:
    """A checkpoint: its record's number, step, Unix time, and the new bytes that it wrote (None where unknown)."""

    number: int
    step: int
    time: float
    bytes: int | None = None


@dataclass(frozen=True)
class Attempt:
    """One attempt; times are Unix seconds.

    Attributes:
        ended: its last sign of life that is known, `began` where there is none.
        from_step: the step that it went on from; `step` is that of its last commit, or of its finish.
        reached: the newest step that its heartbeat told the next attempt; None where it told none.
        lost_steps: steps that it is known to have done in vain, None where unknown; `lost_seconds` is what they took,
            reckoned; `unseen_steps` is how many more it may have done after its last heartbeat, at the run's pace.
        lives: whether nothing is known of an end, neither a finish nor a next attempt.
        reason: why it ended, in words.
        changes: recipe keys that it ran with instead of run.json's.
    """

    number: int
    owner: str
    host: str
    began: float
    ended: float
    from_step: int
    step: int
    reached: int | None = None
    lost_steps: int | None = 0
    lost_seconds: float | None = 0.0
    unseen_steps: int = 0
    commits: tuple[Commit, ...] = ()
    lives: bool = False
    reason: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lost_words(self) -> str:
        """How many steps were lost, as far as that is known."""
        if self.lost_steps is None:
            return "not known"
        most = self.lost_steps + self.unseen_steps
        return f"{self.lost_steps:,} to {most:,}" if self.unseen_steps else f"{self.lost_steps:,}"


def read_attempts(home: RunHome, curve: Curve) -> tuple[Attempt, ...]:
    """Return all attempts of a run, oldest first; records that can't be read are passed over."""
    records = _records(home)
    claims = [record for record in records if record.kind == "claim"]
    if not claims:
        return ()
    pace, sizes = _pace(records), _new_bytes(records)
    found = []
    for place, claim in enumerate(claims):
        after = claims[place + 1] if place + 1 < len(claims) else None
        own = [one for one in records if claim.number < one.number < (after.number if after else math.inf)]
        found.append(_attempt(claim, own, after, records, curve, pace, sizes))
    return (*found[:-1], _still(found[-1], claims[-1], home))


def totals(attempts: tuple[Attempt, ...]) -> tuple[int, float, bool]:
    """Return steps and seconds lost by all attempts together, as far as known, and whether all of it is known."""
    steps = sum(one.lost_steps or 0 for one in attempts)
    seconds = sum(one.lost_seconds or 0.0 for one in attempts)
    ended = [one for one in attempts if not one.lives]
    return steps, seconds, all(one.lost_steps is not None and not one.unseen_steps for one in ended)


def _records(home: RunHome) -> list[Record]:
    head = home.log.head()
    if head.number < MOST_RECORDS:
        numbers = list(range(head.number + 1))
    else:
        numbers = _ends(home, head.newest.claim, head.number)
    with ThreadPoolExecutor(_READERS) as pool:
        return [one for one in pool.map(lambda number: _read(home, number), numbers) if one]


def _ends(home: RunHome, claim: int | None, last: int) -> list[int]:
    """Return the numbers of the claims, of the records before each, and of the newest MOST_RECORDS / 2."""
    found = set(range(max(0, last - MOST_RECORDS // 2), last + 1))
    while claim is not None and claim >= 0:
        found |= {claim, max(0, claim - 1)}
        before = _read(home, claim - 1) if claim else None
        claim = before.newest.claim if before else None
    return sorted(found)


def _read(home: RunHome, number: int) -> Record | None:
    try:
        return home.log.read(number)
    except Damaged:
        return None


def _attempt(
    claim: Record,
    own: list[Record],
    after: Record | None,
    records: list[Record],
    curve: Curve,
    pace: float,
    sizes: Mapping[int, int],
) -> Attempt:
    number, began = claim.attempt, seconds_of(claim.time)
    saved = [one for one in own if one.kind in ("commit", "finish")]
    commits = _commits([one for one in own if one.kind == "commit"], sizes, curve, number)
    from_step = _step_of(claim.body.get("resumed_from"), records)
    step = max([one.step for one in saved] or [from_step])
    finish = next((one for one in own if one.kind == "finish"), None)
    known = [seconds_of(one.time) for one in saved] + [one.time for one in commits]
    ended = max([began, *known, _time(curve.ends.get(number))])
    said = next((stop.reason for stop in curve.stops if stop.attempt == number and stop.reason), "")
    reached, lost, lost_seconds, unseen, reason = None, 0, 0.0, 0, said
    if finish:
        reason = finish.body.get("reason", "") or said
    elif after:
        reached = after.body.get("heartbeat_step")
        # What the next attempt goes on from may be older than the last commit, where that was damaged.
        back = _step_of(after.body.get("resumed_from"), records) if after.body.get("resumed_from") is not None else 0
        lost = None if reached is None else max(0, reached - back)
        lost_seconds = None if lost is None or not pace else lost * pace
        # Who could say why it ended had its last heartbeat after its last step.
        unseen = 0 if said or not pace else math.ceil(INTERVAL / pace)
        ended = min(max(ended, _last_commit(commits, began) + (lost_seconds or 0)), seconds_of(after.time))
        reason = said or _how(claim, after)
    return Attempt(
        number,
        claim.body.get("owner", ""),
        claim.body.get("host", ""),
        began,
        ended,
        from_step,
        step,
        reached,
        lost,
        lost_seconds,
        unseen,
        commits,
        lives=not finish and not after,
        reason=reason,
        changes=claim.body.get("changes") or {},
    )


def _still(last: Attempt, claim: Record, home: RunHome) -> Attempt:
    """Return the newest attempt with what is known of it now: how far it came, and whether its process is gone."""
    if not last.lives:
        return last
    beat = read_beat(home.store)
    reached = beat.get("step") if beat.get("attempt") == last.number else None
    lost = None if reached is None else max(0, reached - last.step)
    gone = owners.is_dead(claim.body)
    reason = last.reason or (GONE if gone else RUNNING)
    return replace(last, reached=reached, lost_steps=lost, lost_seconds=None, reason=reason)


def _how(claim: Record, after: Record) -> str:
    mine, other = claim.body.get("owner", ""), after.body.get("owner", "")
    if after.body.get("takeover"):
        return f"taken over by {other}"
    return GONE if mine == other or other.startswith("local:") else f"{GONE}; {other} went on"


def _commits(own: list[Record], sizes: Mapping[int, int], curve: Curve, attempt: int) -> tuple[Commit, ...]:
    """Return an attempt's commits, from its records and, where these were not all read, from its own lines."""
    costs = {save.number: save for save in curve.saves if save.attempt == attempt}
    found = {
        number: Commit(number, save.step, save.time, save.bytes)
        for number, save in costs.items()
        if number >= 0 and save.time == save.time
    }
    for one in own:
        size = costs[one.number].bytes if one.number in costs else sizes.get(one.number)
        found[one.number] = Commit(one.number, one.step, seconds_of(one.time), size)
    return tuple(found[number] for number in sorted(found))


def _new_bytes(records: list[Record]) -> dict[int, int]:
    """Return commit -> bytes of its objects that no record before refers to; empty where not all records are known."""
    if [one.number for one in records] != list(range(len(records))):
        return {}
    sizes: dict[int, int] = {}
    known: set[str] = set()
    for record in records:
        if record.kind != "claim":
            new = {ref.digest: ref.size for ref in record.objects if ref.digest not in known}
            sizes[record.number] = sum(new.values())
            known |= set(new)
    return sizes


def _last_commit(commits: tuple[Commit, ...], began: float) -> float:
    return commits[-1].time if commits else began


def _step_of(number: int | None, records: list[Record]) -> int:
    found = next((one for one in records if one.number == number and one.kind != "claim"), None)
    return found.step if found else 0


def _pace(records: list[Record]) -> float:
    """Return the seconds that a step takes, by the training time in the newest commit; 0 where unknown."""
    for record in reversed(records):
        if record.kind == "commit" and record.step:
            return float(record.state.get("seconds", 0.0)) / record.step
    return 0.0


def seconds_of(time: str) -> float:
    """Return a record's time as Unix seconds."""
    return datetime.fromisoformat(time).timestamp()


def _time(value: float | None) -> float:
    return value if value is not None and value == value else -math.inf
