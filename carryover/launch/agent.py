"""Owns the process between a step and torchrun: it lives no longer than the step, then becomes torchrun.

Run as `python -m carryover.launch.agent STEP_PID MODULE SPEC_FILE <torchrun's flags>`.

    fork   import what the ranks will import, once; torchrun then forks them (see forked.py)
    exec   torchrun starts each rank as a new process, which imports for itself

A fork is taken wherever it is safe: on Linux, with no other Python thread in this process and no GPU touched.
CARRYOVER_START=fork|exec says which way instead. Results are the same bits either way.
"""

import json
import os
import runpy
import sys
import threading
import traceback
from pathlib import Path

from carryover.ground.console import warn
from carryover.launch import forked, hardware, ranks
from carryover.launch.imports import Imports
from carryover.launch.processes import AGENT_VARIABLE, die_with_parent

# torch then asks the driver's library how many GPUs there are, and makes no context for it.
_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


def main() -> None:
    """Tie this process to the step's, and hand over to torchrun in the same process."""
    die_with_parent(int(sys.argv[1]))
    os.environ[AGENT_VARIABLE] = str(os.getpid())
    module, spec_file, *flags = sys.argv[2:]
    sys.argv = ["torchrun", *flags, *_start(module, Path(spec_file))]
    code = 0
    try:
        runpy.run_module("torch.distributed.run", run_name="__main__", alter_sys=True)
    except Exception as error:
        # torch.distributed's ChildFailedError; only here is known which signal ended a rank.
        failures = getattr(error, "failures", {})
        ranks.report_lost(Path(spec_file).parent, {rank: one.exitcode for rank, one in failures.items()})
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking down an interpreter with all these libraries takes a second or two.
    os._exit(code)


def _start(module: str, spec_file: Path) -> list[str]:
    """Return torchrun's flags for how ranks are started; for forked ones all is imported here and now."""
    asked = os.environ.get(ranks.START_VARIABLE)
    if (asked or ("fork" if _may_fork() else "exec")) == "fork":
        os.environ.setdefault(_NVML, "1")
        Imports.from_json(json.loads(spec_file.read_text()).get("imports", {})).load()
        if not _has_threads():
            return ["--start-method=fork", "--run-path", str(Path(forked.__file__)), module, str(spec_file)]
        if asked:
            warn(f"{ranks.START_VARIABLE}=fork: what is imported has started threads or a GPU; ranks are new processes")
    return ["-m", module, str(spec_file)]


def _may_fork() -> bool:
    return sys.platform == "linux" and (not hardware.has_gpus() or hardware.counts_gpus_untouched())


def _has_threads() -> bool:
    """Tell whether a fork would leave a Python thread behind, or a GPU is in use already."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return threading.active_count() > 1 or bool(cuda and cuda.is_initialized())


if __name__ == "__main__":
    # Ranks are started from here with this working folder on the path, as `python -m` does.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
