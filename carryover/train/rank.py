"""Owns the life of one rank's process: it says that it is there, hears SIGTERM, trains, and says how it ended.

It is `python -m carryover.train.rank SPEC_FILE`, a new process or a fork of one where all is imported already. In a new
one nothing heavy is imported before the signal handler is in place, so a stop that comes meanwhile is heard as well.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from carryover.ground import console, failures, last_words
from carryover.ground.console import libraries_too
from carryover.ground.errors import RunAgain
from carryover.launch import ranks
from carryover.launch.imports import Imports
from carryover.launch.processes import AGENT_VARIABLE, die_with_parent
from carryover.train.stop import Stop


def main() -> None:
    """Run one rank; the exit code is 0 for every ending that has a name, as `launch.ranks` wants it."""
    die_with_parent(int(os.environ[AGENT_VARIABLE]))
    spec_file = Path(sys.argv[1])
    rank = int(os.environ.get("RANK", "0"))
    libraries_too()
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.ask())
    # Ctrl-C reaches the step, which passes it on as SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ranks.report_start(spec_file.parent, rank)
    code, message, trouble = _train(json.loads(spec_file.read_text()), stop)
    ranks.report_end(spec_file.parent, rank, code, message, trouble)
    sys.stdout.flush()
    sys.stderr.flush()
    # Interpreter teardown of the heavy libraries takes a second and can hang on their threads; all is saved by now.
    os._exit(1 if code == 1 else 0)


def _train(spec: dict[str, Any], stop: Stop) -> tuple[int, str, str]:
    """Train; returns the exit code, the last words, and the name of the trouble, both "" where all is done."""
    try:
        Imports.from_json(spec.get("imports", {})).load()
        from carryover.train.run import attempt

        attempt(spec, stop)
    except Exception as error:
        from carryover.data.loader import is_lost_worker
        from carryover.ground import dist

        ours = failures.named(error)
        if dist.is_lost_peer(error) and not ours:
            ours = RunAgain(ranks.LOST_PEER, trouble="rank-lost")
        if is_lost_worker(error) and not ours:
            words = "a process that prepares batches was lost (killed from outside, or for memory)"
            ours = RunAgain(words, trouble="rank-lost")
        if ours is None or console.is_debug():
            traceback.print_exc()
        ours = ours or last_words.internal(error)
        return ours.exit_code, str(ours), ours.trouble
    return 0, "", ""


if __name__ == "__main__":
    main()
