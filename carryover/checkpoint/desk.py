"""Owns the writing process: `python -m carryover.checkpoint.desk PARENT SOCKET ARENA`, started by scribe.py.

It answers one message after the other until nobody is there to ask. It has no torch, gives way to whatever else wants a
core, and hears no signal that is meant for training: what it is at is ended, unless rank 0 is gone, with which it dies.
"""

import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from carryover.ground.parents import die_with_parent

# A core that training leaves is used whole; of one that it does not, a tenth. Less would save nothing, as the work must
# be done, and it would be done late.
NICE = 10


class Desk:
    """What the process holds between two messages."""

    def __init__(self, arena: int) -> None:
        self._arena = arena
        self._begun: dict[str, Any] = {}

    def begin(self, values: Mapping[str, Any], contents: Mapping[str, bytes]) -> dict[str, Any]:
        """Become the writer."""
        from carryover.checkpoint.arena import Arena, Place
        from carryover.checkpoint.handover import become
        from carryover.checkpoint.home import RunHome
        from carryover.checkpoint.pack import Kept
        from carryover.checkpoint.retention import Keep
        from carryover.ground.storage import open_store

        places = [Place(name, dtype, tuple(shape), start) for name, dtype, shape, start in values["places"]]
        self._begun = {
            "writer": become(RunHome(open_store(values["home"])), values["writer"]),
            "arena": Arena.mapped(self._arena, places),
            "lasting": {name: Kept(dtype, tuple(shape), key) for name, dtype, shape, key in values["lasting"]},
            "keep": Keep(**values["keep"]),
            "files": dict(contents),
        }
        return {}

    def commit(self, values: Mapping[str, Any], contents: Mapping[str, bytes]) -> dict[str, Any]:
        """Make a commit of what lies in the arena."""
        from carryover.checkpoint.scribe import commit

        begun = self._begun
        saved = commit(
            begun["writer"],
            {**begun["lasting"], **begun["arena"].tensors()},
            beside=contents,
            files=begun["files"],
            keep=begun["keep"],
            **values,
        )
        return {"saved": asdict(saved)}

    def end(self, values: Mapping[str, Any], contents: Mapping[str, bytes]) -> dict[str, Any]:
        """Tell the writer back."""
        from carryover.checkpoint.handover import told

        return {"writer": told(self._begun["writer"])}


def main() -> None:
    """Serve rank 0."""
    parent, end, arena = map(int, sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(parent)
    os.nice(NICE)
    # What a commit needs, so that none waits for it.
    importlib.import_module("carryover.checkpoint.scribe")
    from carryover.checkpoint.channel import Channel, Closed

    channel, desk = Channel(socket.socket(fileno=end)), Desk(arena)
    try:
        channel.send({"ready": True})
        while True:
            values, contents = channel.receive()
            channel.send(_answered(getattr(desk, values.pop("do")), values, contents))
    except Closed:
        sys.stderr.flush()
        # All is answered; threads of a store's client need not be waited for.
        os._exit(0)


def _answered(act: Any, values: Mapping[str, Any], contents: Mapping[str, bytes]) -> Mapping[str, Any]:
    from carryover.ground import failures, last_words
    from carryover.ground.errors import CarryoverError
    from carryover.ground.storage import first_line

    try:
        return act(values, contents)
    except Exception as error:
        store = None if isinstance(error, CarryoverError) else failures.of_store(error)
        ours = store or failures.named(error)
        if ours is None:
            traceback.print_exc()
            ours = last_words.internal(error)
        told = {"message": str(ours), "trouble": ours.trouble, "exit_code": ours.exit_code}
        return {"error": {"said": first_line(error), "store": store is not None, **told}}


if __name__ == "__main__":
    main()
