"""One rank of a launch test, without torch: does what the spec's "do" says for its number ("*" for all others).

done             says 0
save             waits for SIGTERM, takes "seconds", then says 75
deaf             hears no SIGTERM and never ends
exit:CODE:WORDS  says it
wait             waits for SIGTERM (torchrun's, when another rank failed) and says 75
kill             is killed, without a word
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from carryover.launch import ranks
from carryover.launch.processes import AGENT_VARIABLE, die_with_parent


def main() -> None:
    """Be a rank."""
    die_with_parent(int(os.environ[AGENT_VARIABLE]))
    spec_file, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    spec = json.loads(spec_file.read_text())
    time.sleep(spec.get("late", 0))
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    ranks.report_start(spec_file.parent, rank)
    what, *words = spec["do"].get(str(rank), spec["do"].get("*", "done")).split(":", 2)
    while what in ("save", "wait", "deaf") and not (heard and what != "deaf"):
        ranks.progress_file(spec_file.parent).write_text("7")
        time.sleep(0.02)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "save":
        time.sleep(0 if rank else spec.get("seconds", 0))
    code, said = {"done": (0, ""), "save": (75, "saved"), "wait": (75, "another rank was lost")}.get(what, (0, ""))
    if what == "exit":
        code, said = int(words[0]), words[1]
    ranks.report_end(spec_file.parent, rank, code, said)
    os._exit(1 if code == 1 else 0)


if __name__ == "__main__":
    main()
