# pyright: reportMissingImports=false
"""What a loop costs over a bare one, for a tiny model: `step_cost.py PROGRAM [--steps N] [--rounds N]`, one JSON line.

    bare, PROGRAM, bare, PROGRAM ...      each `steps` steps after a tenth of them as warm-up
    {"bare_us": [...], "us": [...], "over_us": [...]}     CPU of the training thread a step; over_us is their difference

All loops get the same network, optimizer (AdamW as torch makes it) and a plain list of batches in memory; logging,
progress bars, checkpoints, clipping and schedules are off: only the loop is left. The clock is the thread's CPU
time at two calls of the network's forward, which no program can move.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy

BATCH, FEATURES, HIDDEN, CLASSES = 16, 32, 64, 10


class Tiny(torch.nn.Module):
    """[16, 32] -> [16, 10] logits; notes the thread's CPU time at the calls numbered `first` and `last`."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(FEATURES, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, CLASSES)
        )
        self.calls, self.first, self.last, self.began, self.ended = 0, first, last, 0.0, 0.0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.calls == self.first:
            self.began = time.thread_time()
        elif self.calls == self.last:
            self.ended = time.thread_time()
        self.calls += 1
        return self.layers(inputs)

    @property
    def us_a_step(self) -> float:
        """Microseconds of CPU a step between the two calls."""
        assert self.ended, "the loop ended before its last step was measured"
        return (self.ended - self.began) / (self.last - self.first) * 1e6


class Batches:
    """The same few batches over and over, `length` in all."""

    def __init__(self, length: int) -> None:
        chance = torch.Generator().manual_seed(1)
        self.length = length
        self.kept = [
            (torch.randn(BATCH, FEATURES, generator=chance), torch.randint(CLASSES, (BATCH,), generator=chance))
            for _ in range(64)
        ]

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        kept = self.kept
        for number in range(self.length):
            yield kept[number & 63]


def adamw(network: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer of all."""
    return torch.optim.AdamW(network.parameters(), lr=1e-3)


def bare(network: Tiny, batches: Batches) -> None:
    """The loop of a tutorial."""
    optimizer = adamw(network)
    network.train()
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = cross_entropy(network(inputs), targets)
        loss.backward()
        optimizer.step()


def with_accelerate(network: Tiny, batches: Batches) -> None:
    """As in accelerate's quick tour; the list of batches needs no preparing."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(network, adamw(network))
    model.train()
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        accelerator.backward(loss)
        optimizer.step()


def with_lightning(network: Tiny, batches: Batches) -> None:
    """lightning.Trainer with all that can be turned off turned off."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
            inputs, targets = batch
            return cross_entropy(self.network(inputs), targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return adamw(self)

    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(accelerator="cpu", devices=1, max_epochs=1, barebones=False, **off)
    trainer.fit(Module(), train_dataloaders=batches)


def with_trainer(network: Tiny, batches: Batches) -> None:
    """transformers.Trainer without logging, saving, clipping; a constant learning rate."""
    from transformers import Trainer, TrainingArguments

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": cross_entropy(self.network(inputs), labels)}

    class Loop(Trainer):
        def get_train_dataloader(self) -> Any:
            return named

    named = Named(batches)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            max_steps=len(batches),
            per_device_train_batch_size=BATCH,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            max_grad_norm=0,
            lr_scheduler_type="constant",
        )
        wrapped = Wrapped()
        Loop(wrapped, arguments, train_dataset=batches, optimizers=(adamw(wrapped), None)).train()


class Named:
    """The batches as dicts, which transformers.Trainer asks for."""

    def __init__(self, batches: Batches) -> None:
        self.length, self.kept = batches.length, [{"inputs": one, "labels": two} for one, two in batches.kept]
        self.dataset, self.batch_size = batches, BATCH

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for number in range(self.length):
            yield dict(self.kept[number & 63])


def with_ignite(network: Tiny, batches: Batches) -> None:
    """An Engine with the update of a tutorial."""
    from ignite.engine import Engine

    optimizer = adamw(network)
    network.train()

    def update(_: Engine, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
        inputs, targets = batch
        optimizer.zero_grad()
        loss = cross_entropy(network(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    Engine(update).run(batches, max_epochs=1, epoch_length=len(batches))


LOOPS: dict[str, Callable[[Tiny, Batches], None]] = {
    "bare": bare,
    "accelerate": with_accelerate,
    "ignite": with_ignite,
    "lightning": with_lightning,
    "trainer": with_trainer,
}


def cost(loop: Callable[[Tiny, Batches], None], steps: int) -> float:
    """Microseconds of the thread's CPU a step."""
    network = Tiny(steps // 10, steps + steps // 10)
    loop(network, Batches(steps + steps // 10 + 1))
    return network.us_a_step


def main() -> None:
    """Measures and prints the line."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("program", choices=LOOPS)
    flags.add_argument("--steps", type=int, default=1500)
    flags.add_argument("--rounds", type=int, default=9)
    asked = flags.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {"bare_us": [], "us": [], "over_us": []}
    for _ in range(asked.rounds):
        without, within = cost(bare, asked.steps), cost(LOOPS[asked.program], asked.steps)
        for name, value in (("bare_us", without), ("us", within), ("over_us", within - without)):
            found[name].append(round(value, 2))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
