# pyright: reportMissingImports=false
"""What another program writes at each save: `saves.py PROGRAM MODE CONFIG FOLDER`, one JSON line of bytes.

MODE is what trains of a text encoder of that configuration with random weights: `full` all of it, `lora` adapters of
rank 8 on queries and values, `head` a linear layer over a frozen encoder. Each save comes after a validation that is
the best yet, keeps the best one and the newest one, and is counted by what the process has handed to the system since.
"""

import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

MODES = ("full", "lora", "head")
SAVES = 4
_RANK = 8


class Adapted(nn.Module):
    """A linear layer with an adapter beside it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.lora_a = nn.Parameter(torch.randn(_RANK, layer.in_features) / 64)
        self.lora_b = nn.Parameter(torch.zeros(layer.out_features, _RANK))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + x @ self.lora_a.T @ self.lora_b.T


class Network(nn.Module):
    """An encoder and a linear head."""

    def __init__(self, mode: str, config: str) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        torch.manual_seed(0)
        self.encoder = AutoModel.from_config(AutoConfig.from_pretrained(config), add_pooling_layer=False)
        self.head = nn.Linear(self.encoder.config.hidden_size, 2)
        if mode != "full":
            self.encoder.requires_grad_(False)
        if mode == "lora":
            for layer in self.encoder.encoder.layer:
                attention = layer.attention.self
                attention.query, attention.value = Adapted(attention.query), Adapted(attention.value)

    def trained(self) -> list[nn.Parameter]:
        """What the optimizer has."""
        return [weight for weight in self.parameters() if weight.requires_grad]


def written() -> int:
    """Bytes that this process has handed to the system in writes so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def steps(network: Network, optimizer: torch.optim.Optimizer) -> Iterator[int]:
    """Update all that trains, once for each save."""
    chance = torch.Generator().manual_seed(1)
    for step in range(1, SAVES + 1):
        for weight in network.trained():
            weight.grad = torch.randn(weight.shape, generator=chance) / 100
        optimizer.step()
        yield step


def lightning(mode: str, config: str, folder: Path) -> list[int]:
    """ModelCheckpoint with the best and the last."""
    import lightning as pl
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint
    from torch.utils.data import DataLoader

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = Network(mode, config)

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            return sum(weight.square().mean() for weight in self.network.trained())  # pyright: ignore[reportReturnType]

        def validation_step(self, batch: torch.Tensor, _: int) -> None:
            self.log("val", float(-self.current_epoch))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.network.trained(), lr=1e-3)

    marks: list[int] = []

    class Count(Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            marks.append(written())

        def on_fit_end(self, *_: Any) -> None:
            marks.append(written())

    keep = ModelCheckpoint(dirpath=folder, monitor="val", mode="min", save_top_k=1, save_last=True)
    loader = DataLoader(torch.zeros(1, 1))  # pyright: ignore[reportArgumentType]
    trainer = pl.Trainer(
        max_epochs=SAVES,
        accelerator="cpu",
        logger=False,
        callbacks=[keep, Count()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    # Callbacks that save come last of all, some at the end of the epoch: what is counted is whole epochs.
    trainer.fit(Module(), loader, loader)
    return [after - before for before, after in pairwise(marks)]


def trainer(mode: str, config: str, folder: Path) -> list[int]:
    """HF Trainer's own save, as with save_total_limit=2 and load_best_model_at_end."""
    from transformers import Trainer, TrainingArguments

    network = Network(mode, config)
    asked = TrainingArguments(str(folder), save_total_limit=2, use_cpu=True, report_to=[], disable_tqdm=True)
    ours = Trainer(model=network, args=asked)
    ours.optimizer = torch.optim.AdamW(network.trained(), lr=1e-3)
    ours.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(ours.optimizer, lambda _: 1.0)
    found = []
    for step in steps(network, ours.optimizer):
        ours.state.global_step, before = step, written()
        ours._save_checkpoint(network, None)
        found.append(written() - before)
    return found


def plain(mode: str, config: str, folder: Path) -> list[int]:
    """torch.save of weights and optimizer, once as the newest and once as the best."""
    network, found = Network(mode, config), []
    optimizer = torch.optim.AdamW(network.trained(), lr=1e-3)
    for _ in steps(network, optimizer):
        before = written()
        for name in ("last", "best"):
            torch.save({"model": network.state_dict(), "optimizer": optimizer.state_dict()}, folder / f"{name}.pt")
        found.append(written() - before)
    return found


PROGRAMS = {"lightning": lightning, "trainer": trainer, "torch": plain}


def main() -> None:
    """Run one program and print what each of its saves wrote."""
    program, mode, config, folder = sys.argv[1:]
    print(json.dumps({"saves": PROGRAMS[program](mode, config, Path(folder))}))


if __name__ == "__main__":
    main()
