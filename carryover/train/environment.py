"""Owns `env.*`: how the work is laid out over the hardware."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from carryover.ground.config import check, key
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.train.sections import check_word, words

Precision = Literal["auto", "32", "bf16-mixed", "16-mixed", "64"]
Accelerator = Literal["auto", "cpu", "gpu"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
DDP = "ddp"
_TORCHRUN = "torchrun starts one process a rank"
_NONE_UNUSED = "every parameter that trains gets a gradient in each step, so none has to be looked for"
# Strategies of AutoMM's that come to the same here -> why.
STRATEGIES = {
    "auto": "it is the one strategy, and one rank needs none",
    "dp": f"{_TORCHRUN}, which is faster and gives the same gradients",
    "ddp_spawn": f"{_TORCHRUN}; nothing is spawned",
    "ddp_find_unused_parameters_true": _NONE_UNUSED,
    "ddp_find_unused_parameters_false": "it looks for none",
    "ddp_spawn_find_unused_parameters_true": f"{_TORCHRUN}; {_NONE_UNUSED}",
    "ddp_spawn_find_unused_parameters_false": f"{_TORCHRUN}; nothing is spawned",
}
# Spellings of a precision that mean one of ours.
PRECISIONS = {"16": "16-mixed", "bf16": "bf16-mixed", "32-true": "32", "64-true": "64"}


@dataclass(frozen=True)
class CompileConfig:
    """`env.compile.*`: whether and how torch.compile makes the network faster."""

    turn_on: bool = key(
        False,
        help="Compile the network with torch.compile; the first step takes minutes longer, at each start.",
        allowed="true, false",
        mutable=True,
    )
    mode: str = key(
        "default",
        help="What torch.compile does for speed; the backend inductor only. Those that tune choose kernels by time, so "
        "that a resumed run is not bit-identical.",
        allowed=words(CompileMode),
        mutable=True,
    )
    dynamic: bool = key(
        True,
        help="One program for batches of all sizes. false: one for each size, and no more than torch allows; texts "
        "have many sizes.",
        allowed="true, false",
        mutable=True,
    )
    backend: str = key(
        "inductor",
        help="What compiles; inductor needs a C++ compiler. A backend that torch does not know is an error.",
        allowed="inductor, aot_eager, eager, and others that torch knows",
        mutable=True,
    )

    def __post_init__(self) -> None:
        check_word("mode", self.mode, CompileMode)
        check(bool(self.backend), "backend", self.backend, "the name of a backend, such as inductor")
        default = self.backend == "inductor" or self.mode == "default"
        check(default, "mode", self.mode, f"default with the backend {self.backend}, which has no modes")


@dataclass(frozen=True)
class Env:
    """`env.*`: how the work is laid out over the hardware."""

    batch_size: int = key(
        128,
        help="Samples an optimizer step, over all ranks and accumulated micro-batches.",
        allowed=">= 1",
        mutable=True,
    )
    per_gpu_batch_size: int = key(
        8, help="Samples a rank computes at once (a micro-batch).", allowed=">= 1", identity=False, mutable=True
    )
    eval_batch_size_ratio: float = key(
        4.0,
        help="Samples at once in validation, as a multiple of per_gpu_batch_size.",
        allowed="> 0",
        identity=False,
        mutable=True,
    )
    group_by_length: bool = key(
        True,
        help="Rows whose texts are of similar length share a micro-batch, and less is padded: a third to a half of a "
        "text model's work. The global batches stay what they are; only dropout and batch normalization can tell.",
        allowed="true, false",
        mutable=True,
    )
    precision: str = key(
        "auto",
        help="auto: bf16-mixed where the GPU has it, else 16-mixed; 32 on CPUs. 16, bf16, 32-true and 64-true are "
        "other names for 16-mixed, bf16-mixed, 32 and 64.",
        allowed=words(Precision),
        mutable=True,
    )
    num_workers: int = key(
        2,
        help="Processes a rank that prepare batches; 0 prepares them in the rank itself.",
        allowed=">= 0",
        identity=False,
        mutable=True,
    )
    num_workers_evaluation: int = key(2, help="The same for validation.", allowed=">= 0", identity=False, mutable=True)
    accelerator: str = key("auto", help="Where to train.", allowed=words(Accelerator), identity=False, mutable=True)
    num_gpus: int = key(
        -1,
        help="GPUs to use on this machine, one rank each: -1 takes all, 0 none. --nproc-per-node wins over it.",
        allowed=">= -1",
        identity=False,
        mutable=True,
    )
    strategy: str = key(
        DDP,
        help="ddp: one process a rank, gradients summed over all. The others of AutoMM's that come to the same are "
        "taken for it, and a line says why.",
        allowed=", ".join((DDP, *STRATEGIES)),
        identity=False,
        mutable=True,
    )
    compile: CompileConfig = field(default_factory=CompileConfig)
    deterministic: bool = key(
        True,
        help="Ask PyTorch for deterministic operations, so that a resumed run is bit-identical.",
        allowed="true, false",
        mutable=False,
    )
    fast_dev_run: bool | int = key(
        False,
        help="Only so many optimizer steps (true: 1), validated on as many batches: to see that all works. It is a run "
        "of its own.",
        allowed="true, false, >= 0",
        mutable=False,
    )

    def __post_init__(self) -> None:
        check(self.num_gpus >= -1, "num_gpus", self.num_gpus, "-1 (all), 0 (none) or more")
        check(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        check(self.per_gpu_batch_size >= 1, "per_gpu_batch_size", self.per_gpu_batch_size, "1 or more")
        check(self.eval_batch_size_ratio > 0, "eval_batch_size_ratio", self.eval_batch_size_ratio, "above 0")
        check_word("precision", self.precision, Precision)
        check(self.num_workers >= 0, "num_workers", self.num_workers, "0 or more")
        check(self.num_workers_evaluation >= 0, "num_workers_evaluation", self.num_workers_evaluation, "0 or more")
        check_word("accelerator", self.accelerator, Accelerator)
        fits = self.accelerator != "gpu" or self.num_gpus != 0
        check(fits, "num_gpus", self.num_gpus, "-1 or 1 or more with accelerator gpu")
        known = (DDP, *STRATEGIES)
        check(self.strategy in known, "strategy", self.strategy, f"one of {', '.join(known)}")
        check(self.fast_dev_run >= 0, "fast_dev_run", self.fast_dev_run, "true, false, or a number of steps")

    @property
    def allows_gpus(self) -> bool:
        """Tell whether a GPU may be used where there is one."""
        return self.accelerator != "cpu" and self.num_gpus != 0

    @property
    def dev_steps(self) -> int:
        """Return the optimizer steps of a run that only tries all out; 0 for a real one."""
        return int(self.fast_dev_run)

    def strategy_words(self) -> str:
        """Return the line that says what the strategy is taken for, "" where it is what it says."""
        why = STRATEGIES.get(self.strategy)
        return f"env.strategy: {self.strategy!r} is taken for '{DDP}': {why}" if why else ""


def ranks_of(env: Env, asked: int | None, *, gpus: Callable[[], int]) -> int:
    """Return how many ranks to start: as asked for this start, else one for each GPU that the recipe allows.

    Args:
        asked: what a person says for this start, None for nothing.
        gpus: counts the GPUs of this machine; called only where it matters.

    Raises:
        WrongInput: when the recipe asks for more GPUs than there are.
    """
    if asked:
        if env.num_gpus > 0 and env.num_gpus != asked:
            say(f"--nproc-per-node {asked} counts for this start, env.num_gpus {env.num_gpus} does not")
        return asked
    if not env.allows_gpus:
        return 1
    there = gpus()
    if env.num_gpus > there:
        raise WrongInput(
            f"env.num_gpus: {env.num_gpus} is not possible; this machine has {there}: give at most that, -1 for all "
            "there are, or 0 for none"
        )
    return max(1, there if env.num_gpus < 0 else env.num_gpus)
