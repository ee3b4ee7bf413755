"""The loop of a tutorial, the engine's slow twin; both on two ranks: `torchrun ... -m tests.support.bare_rank DIR`.

one rank                Plain.step: seeds, autocast, scaled loss, clipping, update, as PyTorch's pages write them
several ranks           the same under DistributedDataParallel; rank 0 writes DIR/bare and DIR/engine.safetensors
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from carryover.data.loader import Batch
from carryover.data.order import mix
from carryover.ground import dist
from carryover.train.optim import build_optimizer, state_tensors
from carryover.train.sections import Optimization
from tests.train.engines import CPU, copies, engine, global_batch, loss, net

SEED, WORLD, STEPS = 3, 2, 5


class Plain:
    """A network and its optimizer in a loop without a shortcut."""

    def __init__(self, network: nn.Module, precision: str, world: int = 1, **config: Any) -> None:
        self.network = network.double() if precision == "64" else network
        self.wrapped = DistributedDataParallel(self.network) if world > 1 else self.network
        self.config = Optimization(**{"learning_rate": 0.01, **config})
        self.precision, self.world = precision, world
        self.optimizer = build_optimizer(self.network, self.config)
        scaled = precision == "16-mixed"
        self.scaler = torch.amp.GradScaler("cpu", enabled=scaled)  # pyright: ignore[reportPrivateImportUsage]

    def autocast(self) -> Any:
        mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.precision)
        return torch.autocast("cpu", dtype=mixed) if mixed else contextlib.nullcontext()

    def step(self, batches: Sequence[Batch], *, step: int, rate: float) -> tuple[float, float | None]:
        """One optimizer step; returns the sum of this rank's losses, and the gradient's norm where it is clipped."""
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.zero_grad()
        seen = 0.0
        for batch in batches:
            there = batch.to(CPU, torch.float64 if self.precision == "64" else None)
            alone = self.world == 1 or batch.micro.ends_step
            with contextlib.nullcontext() if alone else self.wrapped.no_sync():  # type: ignore[operator]
                torch.manual_seed(int(mix(SEED, step, batch.micro.place) >> 1))
                with self.autocast():
                    losses = loss(self.wrapped(there.features), there.targets)
                weight = self.world / batch.micro.size if batch.micro.counts else 0.0
                self.scaler.scale(losses.sum() * weight).backward()
            seen += float(losses.detach().sum()) if batch.micro.counts else 0.0
        self.scaler.unscale_(self.optimizer)
        norm, limit = None, self.config.gradient_clip_val
        if limit and self.config.gradient_clip_algorithm == "norm":
            norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        elif limit:
            nn.utils.clip_grad_value_(self.network.parameters(), limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return seen, norm

    def tensors(self) -> dict[str, Tensor]:
        """Copies, by the names that a checkpoint has."""
        weights = {f"model/{name}": value for name, value in self.network.state_dict().items()}
        found = {**weights, **state_tensors(self.optimizer, dict(self.network.named_parameters()))}
        return {name: value.detach().clone() for name, value in found.items()}


def main() -> None:
    """Train both ways."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    dist.start(CPU)
    bare, fast = Plain(net(drop=0.3), "32", WORLD), engine(net(drop=0.3))
    for step in range(STEPS):
        # 4 or 5 micro-batches, so that ranks accumulate; the last step has one, and the second rank a stand-in.
        size = 4 if step == STEPS - 1 else 20
        batches = global_batch(20 * step % 80, size=size, micro=5, rank=dist.rank(), world=WORLD)
        seen, norm = bare.step(batches, step=step, rate=0.02)
        result = fast.step(batches, step=step, rate=0.02)
        assert (float(result.loss), None if result.norm is None else float(result.norm)) == (seen, norm)
    if dist.rank() == 0:
        save_file(bare.tensors(), folder / "bare.safetensors")
        save_file(copies(fast), folder / "engine.safetensors")
    dist.stop()


if __name__ == "__main__":
    main()
