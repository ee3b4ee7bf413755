"""Owns pruning by hand: fewer commits kept of a run that nobody trains now, and what nobody refers to removed.

look      what would stay, what would go                        `plan`; changes nothing
living?   an attempt that gives signs of life prunes by itself   refused
verify    the newest commit, whole                               a run is not pruned down to what can't be read
claim     as the owner of the last attempt, so that its retry goes on as if nothing had been
commit    the newest commit's content again, under a new number, with fewer kept; then data goes (see writer.py)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from carryover.checkpoint import owners, retention
from carryover.checkpoint.heartbeat import PATIENCE, read_beat, write_beat
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import OBJECTS, Damaged, object_name
from carryover.checkpoint.log import Head, Record
from carryover.checkpoint.retention import Keep, Point
from carryover.checkpoint.writer import Writer
from carryover.ground.console import say
from carryover.ground.errors import RunAgain, Superseded, WrongInput
from carryover.ground.unfinished import unfinished

POLL = 0.5


@dataclass(frozen=True)
class Plan:
    """What a pruning would do.

    Attributes:
        kept, dropped: numbers of commits, ascending.
        objects: digests of the objects that would go, `bytes` their size.
        unfinished: how many writes that never ended would be freed.
    """

    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    objects: tuple[str, ...]
    bytes: int
    unfinished: int

    @property
    def empty(self) -> bool:
        """Whether nothing would go."""
        return not (self.dropped or self.objects or self.unfinished)


def plan(home: RunHome, keep: Keep) -> Plan:
    """Look what `keep` would leave; what the run goes back to (see `_needed_later`) always stays.

    Raises:
        WrongInput: when there is no commit.
        Damaged: when a finish can't be read, so that nothing may be removed.
    """
    head = home.log.head()
    commits = home.commits()
    if not commits:
        raise WrongInput(f"{home.store.uri}: no checkpoint yet, nothing to prune")
    kept = retention.what_to_keep([Point.of(record) for record in commits], keep, protect=_needed_later(home, head))
    staying = [record for record in commits if record.number in kept]
    needed = retention.digests([*staying, *home.finish_records(head)])
    doomed = tuple(sorted(set(home.objects.names()) - needed))
    return Plan(
        kept=kept,
        dropped=tuple(record.number for record in commits if record.number not in kept),
        objects=doomed,
        bytes=sum(home.store.size(object_name(name)) or 0 for name in doomed),
        unfinished=len(unfinished(home.store, OBJECTS)),
    )


def prune(home: RunHome, keep: Keep, *, patience: float = PATIENCE, on_wait: Callable[[str], None] = say) -> Record:
    """Prune, and return the record that says what is kept from now on.

    The newest commit is read whole into memory and verified first.

    Args:
        patience: seconds without a sign of life after which an attempt that can't be looked at counts as over.
        on_wait: told once that we wait that long.

    Raises:
        WrongInput: when there is no commit.
        RunAgain: when an attempt is alive, or started meanwhile.
        Damaged: when the newest commit does not verify, or a finish can't be read.
    """
    head, newest = home.log.head(), home.commits()[-1:]
    last = home.latest_claim(head)
    home.finish_records(head)
    if not newest or last is None:
        raise WrongInput(f"{home.store.uri}: no checkpoint yet, nothing to prune")
    _see_nobody(home, last, head, patience, on_wait)
    loaded = home.load_newest()
    if loaded is None or loaded.record.number != head.newest.commit:
        raise Damaged(f"{home.store.uri}: its newest checkpoint does not verify; nothing is removed from such a run")
    try:
        writer = Writer.resume(home, _claim(home, last, head).handoff(), loaded)
        return writer.commit_again(loaded.record, keep, protect=_needed_later(home, head))
    except Superseded as error:
        raise RunAgain(
            f"{home.store.uri}: an attempt has started; nothing of it was touched ({error})", trouble="busy"
        ) from error


def _needed_later(home: RunHome, head: Head) -> frozenset[int]:
    """Return what the last attempt was resumed from, and the commits of the best steps, which the Model is made of."""
    last, commits = home.latest_claim(head), home.commits()
    state = commits[-1].state if commits else {}
    best = {state.get("best_step"), *(step for _, step in state.get("top", []))}
    found = {record.number for record in commits if record.step in best}
    return frozenset(found | {last.body["resumed_from"]} if last else found)


def _see_nobody(home: RunHome, last: Record, head: Head, patience: float, on_wait: Callable[[str], None]) -> None:
    """Raise RunAgain when the attempt of the last claim is alive; no clocks are compared."""
    if owners.has_ended(last, head) or owners.is_dead(last.body):
        return
    on_wait(f"{home.store.uri}: attempt {last.attempt} may be alive; looking for signs of it for {patience:g} s")
    before, until = read_beat(home.store), time.monotonic() + patience
    while time.monotonic() < until:
        time.sleep(min(POLL, patience / 4))
        if read_beat(home.store) != before or home.log.has_grown(head):
            raise RunAgain(
                f"{home.store.uri}: attempt {last.attempt} of {last.body['owner']} is alive on {last.body['host']}; "
                "it prunes by itself (checkpoint.keep_last, checkpoint.keep_best). Come back when it has ended",
                trouble="busy",
            )


def _claim(home: RunHome, last: Record, head: Head) -> Writer:
    """Claim as who had the run: a zombie of it can write no more, and its owner's next attempt need not wait."""
    attempt = head.attempt + len(head.unreadable) + 1
    body = {**last.body, **owners.this_process(), "takeover": False}
    record = home.log.append(head, kind="claim", attempt=attempt, body=body)
    beat = read_beat(home.store)
    step = beat.get("step") if beat.get("attempt") == last.attempt else last.body["heartbeat_step"]
    # The next attempt still learns how far the last one came.
    write_beat(home.store, attempt=attempt, count=0, step=step)
    return Writer(home, head=head.after(record), attempt=attempt, resumed_from=last.body["resumed_from"])
