"""Owns a rank that is forked from torchrun's process, where all that it imports is loaded already.

    torchrun    imports once, forks
      worker    waits; ends as the rank did        torchrun wants its functions to return, and all at one time
        rank    `python -m MODULE SPEC_FILE`       ends by itself, when it likes, with sockets and devices let go

torchrun runs this file by `--start-method=fork --run-path`, with MODULE and SPEC_FILE behind it.
"""

import os
import runpy
import signal
import sys
import traceback
from pathlib import Path

from carryover.launch import ranks
from carryover.launch.hardware import has_gpus
from carryover.launch.processes import AGENT_VARIABLE, die_with_parent

# What torchrun's process hears in its own way; a rank begins as any new process does.
_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def main() -> None:
    """Fork the rank, pass SIGTERM on to it, and end as it ends."""
    die_with_parent(int(os.environ[AGENT_VARIABLE]))
    os.environ[AGENT_VARIABLE] = str(os.getpid())
    module, spec_file = sys.argv[1:]
    rank = os.fork()
    if not rank:
        _be_rank(module, spec_file)
    heard: list[int] = []

    def pass_on(number: int, _: object) -> None:
        heard.append(number)
        os.kill(rank, number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pass_on)
    _, status = os.waitpid(rank, 0)
    # torchrun ends its workers when one has failed; one that returned would have it wait for the rest of its patience.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if heard:
        _end_by(signal.SIGTERM)
    if code := os.waitstatus_to_exitcode(status):
        number = int(os.environ["RANK"])
        ranks.report_lost(Path(spec_file).parent, {number: code}, name=f"lost-{number}")
        _end_by(-code) if code < 0 else os._exit(code)


def _be_rank(module: str, spec_file: str) -> None:
    code = 1
    try:
        for number in _HEARD:
            signal.signal(number, signal.SIG_DFL)
        if _can_use_no_gpu():
            os.execv(sys.executable, [sys.executable, "-u", "-m", module, spec_file])
        sys.argv = [module, spec_file]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1 if error.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Never back into what was forked.
        os._exit(code)


def _can_use_no_gpu() -> bool:
    """Tell whether something touched CUDA before the fork, after which no forked process can use it."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    touched = getattr(cuda, "_is_in_bad_fork", None)
    return bool(touched and touched() and has_gpus())


def _end_by(number: int) -> None:
    """End this process by a signal, as the rank was, without a core file of its own."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    main()
