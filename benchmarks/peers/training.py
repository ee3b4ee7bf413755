# pyright: reportMissingImports=false
"""One training by another program, or by a bare loop: `training.py PROGRAM JOB.json`, one JSON line {"val_loss": ...}.

The job names a folder of a transformers encoder, tokenised rows (train.safetensors, validation.safetensors: ids, mask,
labels), batch, steps, `every` (validation and checkpoint after so many steps), learning rate and a folder to write to.
All train the same network from the same weights on the same rows with AdamW at a constant rate, clipped to a norm of 1.
After each validation all write the newest state (weights and optimizer) and keep the best one too, each in its own way.
How fast they are is noted by clock/sitecustomize.py, in all programs alike.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

Batch = dict[str, torch.Tensor]


class Classifier(torch.nn.Module):
    """An encoder and a linear head on its first token: [B, T] ids -> loss and [B, 2] logits."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        from transformers import AutoModel

        torch.manual_seed(0)
        self.encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.head(self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0])
        return {"loss": cross_entropy(logits, labels), "logits": logits}


class Rows:
    """Tokenised rows of a file: rows[i] is one row, `batches` all of them, each once and in order."""

    def __init__(self, path: Path) -> None:
        self.columns = load_file(path)

    def __len__(self) -> int:
        return len(self.columns["labels"])

    def __getitem__(self, row: int) -> Batch:
        return {name: values[row] for name, values in self.columns.items()}

    def batches(self, size: int) -> "Batches":
        """Batches of `size` rows, those of a tail with them."""
        return Batches([{name: values[at : at + size] for name, values in self.columns.items()}
                        for at in range(0, len(self), size)])  # fmt: skip


class Batches(list[Batch]):
    """A list that loops accept as a loader."""

    dataset: Any = None


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def moved(batch: Batch) -> Batch:
    """The batch on the device."""
    return {name: values.to(device(), non_blocking=True) for name, values in batch.items()}


@torch.no_grad()
def validated(network: torch.nn.Module, batches: list[Batch]) -> float:
    """Mean loss over the rows."""
    network.eval()
    losses = [(network(**moved(batch))["loss"].item(), len(batch["labels"])) for batch in batches]
    network.train()
    return sum(loss * rows for loss, rows in losses) / sum(rows for _, rows in losses)


def steps_of(job: SimpleNamespace, rows: Rows) -> Iterator[tuple[int, Batch]]:
    """Steps from 1 on, with their batches."""
    yield from zip(range(1, job.steps + 1), rows.batches(job.batch), strict=False)


def loop_alone(job: SimpleNamespace, train: Rows, validation: Rows) -> float:
    """Nothing but steps; the loss at the end is measured when the clock has stopped."""
    network = Classifier(job.model).to(device()).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=job.lr, weight_decay=0.0)
    for _, batch in steps_of(job, train):
        optimizer.zero_grad()
        network(**moved(batch))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return validated(network, validation.batches(4 * job.batch))


def bare(job: SimpleNamespace, train: Rows, validation: Rows) -> float:
    """The loop of a tutorial with validation and torch.save; a better state is copied to best.pt."""
    network = Classifier(job.model).to(device()).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=job.lr, weight_decay=0.0)
    best, loss, last = float("inf"), 0.0, Path(job.out) / "last.pt"
    for step, batch in steps_of(job, train):
        optimizer.zero_grad()
        network(**moved(batch))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % job.every == 0:
            loss = validated(network, validation.batches(4 * job.batch))
            state = {"step": step, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, last)
            if loss < best:
                best = loss
                shutil.copyfile(last, last.with_name("best.pt"))
    return loss


def with_accelerate(job: SimpleNamespace, train: Rows, validation: Rows) -> float:
    """Accelerator.prepare and save_state; the best state is saved once more, as its examples do."""
    from accelerate import Accelerator

    accelerator = Accelerator()
    network = Classifier(job.model)
    optimizer = torch.optim.AdamW(network.parameters(), lr=job.lr, weight_decay=0.0)
    network, optimizer = accelerator.prepare(network, optimizer)
    network.train()
    best, loss = float("inf"), 0.0
    for step, batch in steps_of(job, train):
        optimizer.zero_grad()
        accelerator.backward(network(**moved(batch))["loss"])
        accelerator.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % job.every == 0:
            loss = validated(network, validation.batches(4 * job.batch))
            accelerator.save_state(str(Path(job.out) / "last"))
            if loss < best:
                best = loss
                accelerator.save_state(str(Path(job.out) / "best"))
    return loss


def with_lightning(job: SimpleNamespace, train: Rows, validation: Rows) -> float:
    """lightning.Trainer with ModelCheckpoint for best and last; no logger and no bar."""
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = Classifier(job.model)

        def training_step(self, batch: Batch, _: int) -> torch.Tensor:
            return self.network(**batch)["loss"]

        def validation_step(self, batch: Batch, _: int) -> None:
            self.log("val_loss", self.network(**batch)["loss"], batch_size=len(batch["labels"]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=job.lr, weight_decay=0.0)

    # At each validation the newest is saved anew, whatever its score; the best one stays.
    best = ModelCheckpoint(job.out, filename="best", monitor="val_loss", save_top_k=1, save_last=False)
    last = ModelCheckpoint(job.out, filename="last", every_n_train_steps=job.every, save_top_k=1)
    trainer = lightning.Trainer(
        accelerator="auto", devices=1, max_steps=job.steps, val_check_interval=job.every, gradient_clip_val=1.0,
        num_sanity_val_steps=0, callbacks=[best, last], logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=job.out,
    )  # fmt: skip
    trainer.fit(Module(), train.batches(job.batch), validation.batches(4 * job.batch))
    return float(trainer.callback_metrics["val_loss"])


def with_trainer(job: SimpleNamespace, train: Rows, validation: Rows) -> float:
    """transformers.Trainer, which keeps best and last and collates rows itself; in the order of the file."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=job.out, max_steps=job.steps, per_device_train_batch_size=job.batch, learning_rate=job.lr,
        per_device_eval_batch_size=4 * job.batch, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0,
        eval_strategy="steps", eval_steps=job.every, save_strategy="steps", save_steps=job.every, save_total_limit=2,
        load_best_model_at_end=False, metric_for_best_model="eval_loss", greater_is_better=False,
        optim="adamw_torch", train_sampling_strategy="sequential", logging_strategy="no", report_to="none",
        disable_tqdm=True, prediction_loss_only=True,
    )  # fmt: skip
    trainer = Trainer(Classifier(job.model), arguments, train_dataset=train, eval_dataset=validation)
    trainer.train()
    return next(float(line["eval_loss"]) for line in reversed(trainer.state.log_history) if "eval_loss" in line)


PROGRAMS: dict[str, Callable[[SimpleNamespace, Rows, Rows], float]] = {
    "accelerate": with_accelerate,
    "bare": bare,
    "lightning": with_lightning,
    "loop-alone": loop_alone,
    "trainer": with_trainer,
}


def main() -> None:
    """Trains and prints the line."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("program", choices=PROGRAMS)
    flags.add_argument("job", type=Path)
    asked = flags.parse_args()
    job = SimpleNamespace(**json.loads(asked.job.read_text()))
    train, validation = (Rows(Path(job.data) / f"{split}.safetensors") for split in ("train", "validation"))
    print(json.dumps({"val_loss": PROGRAMS[asked.program](job, train, validation)}), flush=True)


if __name__ == "__main__":
    main()
