"""Owns how an attempt starts: who may have the run, waiting for who has it, and the claim record.

read the newest claim --- free --------------------------------> append claim --- lost race ---> read again
        |                                                             |
        +-- busy: watch its heartbeat -- stands still, or is dead ----+-> writer
                  |           |
                  |           +-- somebody else has claimed it: read again
                  +-- it finishes: None, the caller looks at the result
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from carryover.checkpoint import owners
from carryover.checkpoint.heartbeat import PATIENCE, Watch, read_beat, write_beat
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import record_name
from carryover.checkpoint.log import Head, Record
from carryover.checkpoint.writer import Writer
from carryover.ground.console import say
from carryover.ground.errors import CarryoverError, Superseded

POLL = 1.0


@dataclass(frozen=True)
class Bid:
    """Who wants a run, and how; see `claim` for the fields."""

    owner: str
    takeover: bool
    changes: Mapping[str, Any]
    patience: float
    on_wait: Callable[[str], None]


class Wait(Enum):
    """How waiting for another owner ended."""

    GONE = "gone"
    FINISHED = "finished"
    REPLACED = "replaced"


def claim(
    home: RunHome,
    *,
    owner: str = "",
    takeover: bool = False,
    changes: Mapping[str, Any] | None = None,
    patience: float = PATIENCE,
    on_wait: Callable[[str], None] = say,
) -> Writer | None:
    """Start an attempt, waiting while another owner's is alive.

    Args:
        owner: who we are; "" means this very process.
        takeover: claim even from a living owner, and even when one took the run from us.
        changes: dotted recipe key -> value where this attempt differs from run.json; earlier ones stay in force.
        patience: seconds without a heartbeat after which another owner counts as gone.
        on_wait: told once whom we wait for.

    Returns:
        The writer; None when another owner finished the run while we waited: look at `finish_record` again.

    Raises:
        Superseded: when another owner took this run from us.
        CarryoverError: when there are commits and none is whole.
    """
    bid = Bid(owner or owners.local_owner(), takeover, changes or {}, patience, on_wait)
    while True:
        head = home.log.head()
        last = home.latest_claim(head)
        if owners.turn(last, head, owner=bid.owner, takeover=bid.takeover) is owners.Turn.BUSY:
            assert last is not None
            outcome = _wait(home, last, bid)
            if outcome is Wait.FINISHED:
                return None
            if outcome is Wait.REPLACED:
                continue
            head = home.log.head()
        try:
            return _append(home, bid, head, last)
        except Superseded:
            continue  # Somebody wrote first: look again who it was.


def _append(home: RunHome, bid: Bid, head: Head, last: Record | None) -> Writer:
    try:
        resumed_from = home.newest_whole(head)
    except CarryoverError:
        if home.log.has_grown(head):
            raise Superseded(f"{home.store.uri}: written to while we looked") from None
        raise
    # An unreadable record may have been a claim: its attempt number stays unused.
    attempt = head.attempt + len(head.unreadable) + 1
    beat = read_beat(home.store)
    body = {
        "owner": bid.owner,
        **owners.this_process(),
        "takeover": bid.takeover,
        "changes": {**(last.body["changes"] if last else {}), **bid.changes},
        "resumed_from": resumed_from,
        "heartbeat_step": beat.get("step") if last and beat.get("attempt") == last.attempt else None,
        "run": home.run_digest(),
        "superseded": owners.superseded_by(last, head, owner=bid.owner),
    }
    record = home.log.append(head, kind="claim", attempt=attempt, body=body)
    # Watchers count from here; rank 0 beats on once it is up.
    write_beat(home.store, attempt=attempt, count=0, step=None)
    return Writer(home, head=head.after(record), attempt=attempt, resumed_from=resumed_from)


def _wait(home: RunHome, last: Record, bid: Bid) -> Wait:
    """Watch the attempt of another owner until it is over, one way or another."""
    bid.on_wait(
        f"{home.store.uri}: attempt {last.attempt} of {last.body['owner']} on {last.body['host']} may be alive; "
        f"waiting until it ends or gives no sign for {bid.patience:g} s"
    )
    watch = Watch(home.store, attempt=last.attempt, patience=bid.patience)
    number = last.number
    while watch.alive():
        if home.store.exists(record_name(number + 1)):
            head = home.log.head()
            if owners.has_ended(last, head):
                return Wait.FINISHED
            if head.newest.claim != last.number:
                return Wait.REPLACED
            number = head.number
            watch.moved()
        if owners.is_dead(last.body):
            return Wait.GONE
        time.sleep(min(POLL, bid.patience / 4))
    return Wait.GONE
