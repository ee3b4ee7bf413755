"""Owns what this machine has for ranks to share: processor cores and GPUs. Needs no torch."""

import ctypes
import math
import os
import re
import subprocess
import sys
from pathlib import Path

from carryover.ground.errors import WrongInput

_CGROUPS = Path("/sys/fs/cgroup")
_DEVICES = Path("/dev")
_GPU = re.compile(r"nvidia\d+|kfd|dxg")
_COUNT = "import torch; print(torch.cuda.device_count())"


def cores(cgroups: Path = _CGROUPS) -> int:
    """Return the processor cores that this process may use: by its affinity, and by the quota of its container.

    A pod that is limited to 2 cores of a node of 64 sees all 64; as many threads would be stopped most of the time.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(seen, _quota(cgroups))))


def gpus(devices: Path = _DEVICES) -> int:
    """Return the GPUs that PyTorch would see; it is asked, in a process of its own, only where there may be several.

    Raises:
        WrongInput: when PyTorch can't say.
    """
    files = _gpu_files(devices)
    if not files or files in (["nvidia0"], ["dxg"]):
        # Should PyTorch not be able to use it, the one rank there is says so, or goes on without.
        return len(files)
    asked = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False)
    try:
        return int(asked.stdout)
    except ValueError:
        last = (asked.stderr.strip().splitlines() or ["no word"])[-1]
        raise WrongInput(
            f"env.num_gpus: PyTorch can't count the GPUs ({last}); give --nproc-per-node", trouble="not-enough-gpus"
        ) from None


def has_gpus(devices: Path = _DEVICES) -> bool:
    """Tell whether there is any GPU that PyTorch might use."""
    return bool(_gpu_files(devices))


def counts_gpus_untouched() -> bool:
    """Tell whether NVIDIA's management library is here: by it PyTorch counts GPUs without touching one."""
    try:
        return ctypes.CDLL("libnvidia-ml.so.1").nvmlInit_v2() == 0
    except (OSError, AttributeError):
        return False


def thread_variables(ranks: int) -> dict[str, str]:
    """Return what keeps `ranks` processes of this machine from fighting for its cores; what a person set stays."""
    share = str(max(1, cores() // ranks))
    wanted = {"OMP_NUM_THREADS": share, "TORCHINDUCTOR_COMPILE_THREADS": share}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def thread_words(ranks: int) -> str:
    """Return how many threads each rank gets, in words."""
    threads = thread_variables(ranks)["OMP_NUM_THREADS"]
    whose = "by OMP_NUM_THREADS" if "OMP_NUM_THREADS" in os.environ else f"of {cores()} cores"
    return f"{threads} thread{'' if threads == '1' else 's'} each ({whose})"


def _gpu_files(devices: Path) -> list[str]:
    return [path.name for path in devices.iterdir() if _GPU.fullmatch(path.name)]


def _quota(cgroups: Path) -> float:
    """Return the cores that a container's limit allows, infinite without one."""
    try:
        if (cgroups / "cpu.max").exists():
            limit, period = (cgroups / "cpu.max").read_text().split()
            return math.inf if limit == "max" else int(limit) / int(period)
        limit = int((cgroups / "cpu" / "cpu.cfs_quota_us").read_text())
        return limit / int((cgroups / "cpu" / "cpu.cfs_period_us").read_text()) if limit > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
