"""The least that two gloo ranks must do before their first optimizer step: the yardstick for `carryover train-ddp`.

Started by torchrun. Same imports, model, rows and micro-batch as the trainer it is compared with, and nothing else: no
recipe, no store, no validation, no sharding. Rank 0 writes the wall clock of its first optimizer step to the file named
by CARRYOVER_FIRST_STEP_FILE, and prints where the time went.

With --state it goes on from a checkpoint of weights and AdamW's moments first, or leaves one behind with --save: as
scripts do it, with torch.save on a file that fsspec opens, or with torch.distributed.checkpoint.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

STARTED = time.time()

import pyarrow.parquet as pq  # noqa: E402  (the clock starts before the imports, as they are what is measured)
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402
from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: E402

IMPORTED = time.time()


class Classifier(torch.nn.Module):
    """An encoder and a linear head on its first token: [B, T] token ids -> [B, classes] logits."""

    def __init__(self, folder: str, classes: int) -> None:
        super().__init__()
        # A pooler that nothing reads takes no step, and DCP finds no moments for it.
        self.encoder = AutoModel.from_config(AutoConfig.from_pretrained(folder), add_pooling_layer=False)
        self.encoder.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=False)
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, classes)

    def forward(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.head(self.encoder(**tokens).last_hidden_state[:, 0])


def main() -> None:
    """Does one step and leaves."""
    flags = argparse.ArgumentParser()
    flags.add_argument("--model", required=True)
    flags.add_argument("--shard", required=True)
    flags.add_argument("--text", required=True)
    flags.add_argument("--label", required=True)
    flags.add_argument("--batch", type=int, required=True)
    flags.add_argument("--state", default="", help="URI of a checkpoint to go on from")
    flags.add_argument("--save", default="", help="URI to leave a checkpoint at")
    flags.add_argument("--how", choices=("torch_save", "dcp"), default="torch_save")
    asked = flags.parse_args()
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    joined = time.time()
    table = pq.read_table(asked.shard, columns=[asked.text, asked.label])
    classes = sorted(set(table.column(asked.label).to_pylist()))
    mine = table.slice(rank * asked.batch, asked.batch)
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    tokens = dict(tokenizer(mine.column(asked.text).to_pylist(), padding=True, truncation=True, return_tensors="pt"))
    targets = torch.tensor([classes.index(label) for label in mine.column(asked.label).to_pylist()])
    read = time.time()
    network = DistributedDataParallel(Classifier(asked.model, len(classes)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    if asked.state:
        load(asked.how, asked.state, network, optimizer)
    built = time.time()
    torch.nn.functional.cross_entropy(network(tokens), targets).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    stepped = time.time()
    if rank == 0:
        Path(os.environ["CARRYOVER_FIRST_STEP_FILE"]).write_text(repr(stepped))
        parts = {
            "imports": IMPORTED - STARTED,
            "process group": joined - IMPORTED,
            "data": read - joined,
            "model": built - read,
            "step": stepped - built,
        }
        print(f"bare: {ranks} ranks: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items()))
    if asked.save:
        save(asked.how, asked.save, network, optimizer)
    dist.destroy_process_group()


def save(how: str, uri: str, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Writes model and optimizer state; rank 0 alone with torch.save, all ranks with DCP."""
    import fsspec
    from torch.distributed.checkpoint import state_dict_saver
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

    if how == "dcp":
        state_dict_saver.save(_state(network, optimizer), storage_writer=FsspecWriter(uri))
    elif dist.get_rank() == 0:
        opened: Any = fsspec.open(uri, "wb")
        with opened as file:
            torch.save({"model": network.state_dict(), "optimizer": optimizer.state_dict()}, file)


def load(how: str, uri: str, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Puts back what `save` wrote, in every rank."""
    import fsspec
    from torch.distributed.checkpoint import state_dict_loader
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader
    from torch.distributed.checkpoint.state_dict import set_state_dict

    if how == "dcp":
        state = _state(network, optimizer)
        state_dict_loader.load(state, storage_reader=FsspecReader(uri))
        set_state_dict(network, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        return
    opened: Any = fsspec.open(uri, "rb")
    with opened as file:
        found = torch.load(file, weights_only=True)
    network.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])


def _state(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import get_state_dict

    model, moments = get_state_dict(network, optimizer)
    return {"model": model, "optimizer": moments}


if __name__ == "__main__":
    main()
