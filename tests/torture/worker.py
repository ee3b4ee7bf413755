"""One attempt at a run as a process of its own, without torch: it claims, saves as fast as it can, and finishes.

Forked from a preloaded server, so that a hundred of them cost seconds. It says each thing it did, once it is done, as a
line in a file of its own:   start STEP | saved STEP | waited | finished STEP
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier

import s3fs  # noqa: F401 - loaded once, in the server that attempts are forked from

from carryover.checkpoint.claims import claim
from carryover.checkpoint.heartbeat import Beat
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.writer import Writer
from carryover.ground.errors import CarryoverError
from carryover.ground.storage import Store
from tests.checkpoint.support import content, end, plain, save, tensors_of

PATIENCE = 8.0


class Overwriting(Store):
    """A store that ignores preconditions: the control."""

    def create(self, name: str, data: bytes) -> bool:
        self.write(name, data)
        return True


@dataclass(frozen=True)
class Attempt:
    """What an attempt is told.

    Attributes:
        uri: the run home.
        said: path of the file that takes its lines.
        steps: it finishes after so many steps of the whole run; 0 means never.
        honest: False for the control, on a store that ignores preconditions.
        env: variables that lead to the store; the server that attempts are forked from may be older than they are.
    """

    uri: str
    said: str
    owner: str
    takeover: bool = False
    steps: int = 0
    honest: bool = True
    env: Mapping[str, str] = field(default_factory=dict)


def run(attempt: Attempt, barrier: Barrier | None = None) -> None:
    """Be that attempt; ends the process with the exit code that a step would have."""
    os.environ.update(attempt.env)
    said = os.open(attempt.said, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(*words: object) -> None:
        os.write(said, f"{' '.join(map(str, words))}\n".encode())

    home = RunHome((Store if attempt.honest else Overwriting)(attempt.uri))
    if barrier:
        home.store.exists("run.json")  # connected before the start, so that all begin at one instant
        barrier.wait(60)
    try:
        if home.finish_record():
            say("waited")
            return
        writer = claim(
            home, owner=attempt.owner, takeover=attempt.takeover, patience=PATIENCE, on_wait=lambda text: say("waiting")
        )
        if writer is None:
            say("waited")
            return
        _train(Writer.resume(home, writer.handoff(), loaded := home.load_newest()), loaded, attempt.steps, say)
    except CarryoverError as error:
        say("ended", error.exit_code, error)
        sys.exit(error.exit_code)


def _train(writer: Writer, loaded, steps: int, say) -> None:
    step = loaded.record.step if loaded else 0
    assert loaded is None or content(loaded) == plain(tensors_of(step)), "other tensors than were saved"
    say("start", step)
    with Beat(writer.home.store, attempt=writer.attempt, step=lambda: step, interval=0.5):
        while not steps or step < steps:
            # Best and last both stay, so that there is something to remove at nearly every save.
            save(writer, step + 1, score=-abs(step % 7 - 3), keep=Keep(last=2, best=1))
            step += 1
            say("saved", step)
        end(writer, step)
        say("finished", step)
