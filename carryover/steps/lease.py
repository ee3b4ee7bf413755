"""Owns what a node of a job does when nobody waits for the job any more: it saves, and ends for good.

node 0        watches the lease; when it stands still: the job is given up, SIGTERM to itself, its ranks save ---> 76
other nodes   their ranks stop with those of node 0; the job was given up, so this is no preemption -------------> 76
restarted     the job was given up -----------------------------------------------------------------------------> 76
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from carryover.checkpoint.lease import Lapse, is_given_up
from carryover.ground.errors import RunAgain, Superseded
from carryover.ground.storage import Store


@contextmanager
def under_lease(home: Store, name: str, seconds: float, *, leads: bool) -> Iterator[None]:
    """Train in the block for as long as somebody waits; "" is no lease, and no end.

    Raises:
        Superseded: when nobody does, after all is saved.
    """
    if not name:
        yield
        return
    words = f"nobody waits for this job any more (lease {name}); a new job goes on from the newest commit"
    if is_given_up(home, name):
        raise Superseded(words)
    if not leads:
        try:
            yield
        except RunAgain:
            if is_given_up(home, name):
                raise Superseded(words) from None
            raise
        return
    # The step hears it as it would a pod's end, whatever it is doing.
    lapse = Lapse(home, name, seconds, lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with lapse:
            yield
    except RunAgain as error:
        if lapse.lapsed:
            raise Superseded(f"{words}; {error}") from None
        raise
