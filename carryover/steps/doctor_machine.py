"""Owns the doctor's looks at this machine: Python and packages, accelerators, processor, memory, disks, hub, loggers.

torch is imported in a process of its own, which has a limited time: a driver that hangs must not hang the doctor.
"""

import importlib.util
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from carryover.ground.amounts import size
from carryover.ground.uris import shown
from carryover.launch import hardware
from carryover.steps.doctor_look import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

TORCH_SECONDS = 90.0
_PACKAGE, _INSTALL = "missing-package", "install the package with its dependencies, from the lock"
_GIB = 1 << 30
_LEAST_SHM, _LEAST_DISK, _LEAST_FILES = _GIB, 5 * _GIB, 1024
_ASK_TORCH = """
import json, torch
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda or torch.version.hip or "",
    "gpus": [[one.name, one.total_memory] for one in gpus]}))
"""


def python() -> Iterator[Finding]:
    """Look at Python, the system, and every package that the project's metadata asks for."""
    system = f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}"
    yield Finding("python", OK, system)
    from packaging.requirements import Requirement

    asked = [Requirement(text) for text in requires("carryover") or []]
    needed = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [one for one in needed if not _fits(one)]
    for one in wrong:
        mend = f"pip install '{one.name}{one.specifier}', or make the environment anew from the lock"
        yield Finding(one.name, FAIL, f"{_version(one.name) or 'missing'}; {one.specifier} is wanted", mend, _PACKAGE)
    some = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "numpy", "pyarrow"))
    if not wrong:
        yield Finding("packages", OK, f"all {len(needed)} as wanted ({some})")
    yield _pair()
    yield _mmcv()
    extras = {"kfp": "kfp", "kubernetes": "trainjob", "mlflow": "mlflow", "docker": ""}
    there = [f"{name} {found}" for name in extras if (found := _version(name) or _version(f"{name}-skinny"))]
    lacks = [f"{name} (carryover[{extra}])" for name, extra in extras.items() if extra and not _is_there(name)]
    missing = f"; not here: {', '.join(lacks)}" if lacks else ""
    yield Finding("extras", OK, f"{', '.join(there) or 'none'}{missing}")


def accelerators() -> Iterator[Finding]:
    """Look at GPUs as the driver and as PyTorch see them."""
    driver = _driver()
    for line in driver:
        yield Finding("gpu driver", OK, line)
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=TORCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        mend = "a driver or a slow disk; try `python -c 'import torch'`"
        yield Finding("torch", FAIL, f"not imported within {TORCH_SECONDS:g} s", mend, _PACKAGE)
        return
    try:
        told = json.loads(asked.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        last = (asked.stderr.strip().splitlines() or ["no word"])[-1]
        yield Finding("torch", FAIL, f"can't be imported: {last}", _INSTALL, _PACKAGE)
        return
    built = f"CUDA {told['cuda']}" if told["cuda"] else "the CPU alone"
    yield Finding("torch", OK, f"{told['torch']}, built for {built}")
    if told["gpus"]:
        names = ", ".join(f"{name} ({size(memory)})" for name, memory in told["gpus"])
        yield Finding("accelerator", OK, f"{len(told['gpus'])}: {names}")
    elif driver:
        mend = "install a build of torch for this driver, and look at CUDA_VISIBLE_DEVICES"
        yield Finding("accelerator", FAIL, "the driver has GPUs and PyTorch sees none", mend, "not-enough-gpus")
    else:
        yield Finding("accelerator", OK, "none; training runs on the CPU")


def machine() -> Iterator[Finding]:
    """Look at processor, memory, /dev/shm, limits and free disk."""
    yield Finding("cpu", OK, f"{hardware.cores()} cores; one rank has {hardware.thread_words(1)}")
    free, limit = _memory()
    state = WARN if free < 2 * _GIB else OK
    mend = "less than a small training needs; lower env.per_gpu_batch_size, or give more" if state == WARN else ""
    yield Finding("memory", state, f"{size(free)} free{f', limited to {size(limit)}' if limit else ''}", mend)
    if Path("/dev/shm").is_dir():
        room = shutil.disk_usage("/dev/shm").free
        mend = "processes that load data share batches there: --shm 8Gi for a pod, or env.num_workers: 0"
        yield Finding(
            "/dev/shm", OK if room >= _LEAST_SHM else WARN, f"{size(room)} free", _if(room < _LEAST_SHM, mend)
        )
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    few = 0 <= files < _LEAST_FILES
    yield Finding("open files", WARN if few else OK, f"{files} at most", _if(few, "ulimit -n 4096"))
    yield disk("scratch", Path(tempfile.gettempdir()), "TMPDIR names a larger folder; --scratch 50Gi for a pod")


def disk(name: str, place: Path, mend: str) -> Finding:
    """Look at the free space of the disk that a folder, which need not be there yet, lies on."""
    there = next(path for path in (place, *place.parents) if path.exists())
    room = shutil.disk_usage(there).free
    state = FAIL if room < (64 << 20) else WARN if room < _LEAST_DISK else OK
    return Finding(
        name, state, f"{size(room)} free at {there}", _if(state != OK, mend), _if(state == FAIL, "disk-full")
    )


def hub() -> Iterator[Finding]:
    """Look at where pretrained weights come from."""
    home = os.environ.get("HF_HOME") or str(Path("~/.cache/huggingface").expanduser())
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub"))
    models = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    kept = f"{models} model{'' if models == 1 else 's'} in {cache}"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        yield Finding("hub", OK, f"switched off (HF_HUB_OFFLINE); {kept}")
        return
    import urllib.error
    import urllib.request

    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5):
            yield Finding("hub", OK, f"{shown(address)} answers; {kept}")
    except urllib.error.HTTPError as error:
        yield Finding("hub", OK, f"{shown(address)} answers ({error.code}); {kept}")
    except (OSError, ValueError) as error:
        mend = "without it only local folders, the store and the cache give weights; set HF_HUB_OFFLINE=1"
        why = getattr(error, "reason", error)
        yield Finding("hub", WARN, f"{shown(address)} does not answer ({why}); {kept}", mend, "hub-offline")


def loggers() -> Iterator[Finding]:
    """Look at where curves go beside the store."""
    yield Finding("tensorboard", OK if _version("tensorboard") else WARN, _version("tensorboard") or "not installed")
    place = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not place:
        yield Finding("mlflow", OK, "not asked for (MLFLOW_TRACKING_URI)")
    elif not _is_there("mlflow"):
        mend = "pip install 'carryover[mlflow]', or unset the variable"
        yield Finding("mlflow", WARN, "MLFLOW_TRACKING_URI is set, and mlflow is not installed", mend, _PACKAGE)
    else:
        yield Finding("mlflow", OK, f"runs go to {shown(place)}")


def _driver() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    fields = "--query-gpu=name,memory.total,driver_version"
    try:
        asked = subprocess.run(
            ["nvidia-smi", fields, "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in asked.stdout.splitlines() if line.strip()] if asked.returncode == 0 else []


def _memory() -> tuple[int, int]:
    """Return bytes of memory that are free for this process, and its container's limit, 0 without one."""
    if not Path("/proc/meminfo").exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), 0
    words = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(words["MemAvailable"].split()[0]) * 1024
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free, 0
    return min(free, max(0, limit - used)), limit


def _pair() -> Finding:
    """torchvision is built against one torch: 0.27 goes with 2.12, and so on."""
    torch, vision = _version("torch"), _version("torchvision")
    if not (torch and vision):
        return Finding("torchvision", FAIL, "missing", _INSTALL, _PACKAGE)
    fits = int(vision.split(".")[1]) == int(torch.split(".")[1]) + 15
    mend = "" if fits else "install both from one place, from the lock"
    return Finding("torchvision", OK if fits else FAIL, f"{vision} beside torch {torch}", mend, _if(not fits, _PACKAGE))


def _mmcv() -> Finding:
    found = importlib.util.find_spec("mmcv")
    if found is None:
        return Finding("mmcv", OK, "not installed; only detection needs it (docs/detection.md)")
    # (Asking for a module inside of it would import it, and torch with it.)
    if not any(True for place in found.submodule_search_locations or () for _ in Path(place).glob("_ext*")):
        mend = "build it from its source: docs/detection.md"
        return Finding("mmcv", WARN, f"{_version('mmcv')} without its operators", mend, _PACKAGE)
    return Finding("mmcv", OK, f"{_version('mmcv')} with its operators, mmdet {_version('mmdet') or 'missing'}")


def _fits(requirement: "Requirement") -> bool:
    found = _version(requirement.name).partition("+")[0]
    return bool(found) and requirement.specifier.contains(found, prereleases=True)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _if(condition: bool, text: str) -> str:
    return text if condition else ""
