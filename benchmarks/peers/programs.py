"""Owns which other programs the benchmarks stand beside, where their environments are, and how a script runs in one.

    requirements/<name>.txt   what is installed, every version pinned (`python -m benchmarks.peers.setup --lock`)
    build/peers/<name>/       the environment; never committed
    build/peers/<name>.why    why it could not be made, in one line

All have the torch that this project's lock has, so that programs are compared and not versions of torch.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import Child, measured

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements"
ENVIRONMENTS = HERE.parents[1] / "build" / "peers"
# No program asks a hub, reports home, or has more threads than another.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "CUDA_MODULE_LOADING": "LAZY",
}


@dataclass(frozen=True)
class Peer:
    """Another program. shown: the package whose version is told; packages: what to install, pinned."""

    shown: str
    packages: tuple[str, ...]
    does: str


PEERS = {
    "automm": Peer("autogluon-multimodal", ("autogluon.multimodal==1.6.3",), "a whole training"),
    "ignite": Peer("pytorch-ignite", ("pytorch-ignite==0.5.5",), "the loop"),
    "lightning": Peer(
        "lightning", ("lightning==2.6.6", "torchmetrics==1.9.0", "transformers==5.23.0"), "the loop, a whole training"
    ),
    "s3torchconnector": Peer("s3torchconnector", ("s3torchconnector==1.5.0",), "reading and writing S3"),
    "streaming": Peer("mosaicml-streaming", ("mosaicml-streaming==0.13.0",), "the position in the data"),
    "torch_checkpointing": Peer("torch-checkpointing", ("torch-checkpointing==0.1.1", "numpy"), "saves"),
    "torchdata": Peer("torchdata", ("torchdata==0.11.0", "numpy"), "the position in the data"),
    "torchsnapshot": Peer("torchsnapshot", ("torchsnapshot==0.1.0", "numpy", "setuptools<81"), "saves"),
    "trainer": Peer(
        "transformers",
        ("transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0", "pyarrow", "scikit-learn"),
        "the loop, a whole training (HF Trainer and accelerate)",
    ),
}


class Absent(RuntimeError):
    """An environment that is not there, with the reason in one line."""


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment; Absent says why there is none."""
    found = ENVIRONMENTS / name / "bin" / "python"
    if not (ENVIRONMENTS / name / ".ready").exists():
        why = ENVIRONMENTS / f"{name}.why"
        told = why.read_text().strip() if why.exists() else f"not set up: python -m benchmarks.peers.setup {name}"
        raise Absent(told)
    return found


def run_in(
    name: str, script: str, arguments: Sequence[object] = (), timeout: float = 1800, memory: bool = False
) -> Child:
    """Runs benchmarks/peers/<script>.py in a peer's environment; `.line()` of the result is what it printed.

    Raises Absent where the environment is missing, RuntimeError where the script fails.
    """
    command = [str(python_of(name)), str(HERE / f"{script}.py"), *map(str, arguments)]
    return measured(command, env=QUIET | _threads(), timeout=timeout, memory=memory)


def versions(*names: str) -> dict[str, str]:
    """Peer -> its pinned version, or the reason why it is not there; as arms.write wants it."""
    return {PEERS[name].shown: _version_or_reason(name) for name in names}


def _version_or_reason(name: str) -> str:
    try:
        python_of(name)
    except Absent as absent:
        return str(absent)
    pinned = dict(line.split("==", 1) for line in requirements(name).read_text().splitlines() if "==" in line)
    return pinned[PEERS[name].shown].split()[0]


def requirements(name: str) -> Path:
    """The pinned list of a peer."""
    return REQUIREMENTS / f"{name}.txt"


def _threads() -> dict[str, str]:
    """The number of threads that the benchmark itself was given, where it was given one."""
    return {"OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]} if "OMP_NUM_THREADS" in os.environ else {}
