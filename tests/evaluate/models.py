"""Small Models for tests of evaluate: made from a real Dataset, fitted for a moment, written to the store."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from carryover.checkpoint.snapshot import snapshot
from carryover.data.config import DataConfig
from carryover.data.manifest import load_card
from carryover.data.rows import Rows, materialise
from carryover.ground.storage import open_store
from carryover.models.assembly import build_config, build_network, build_preprocessing, choose
from carryover.models.export import make_card, model_files, weights_of, write_model
from carryover.tasks.task import make_task, task_files


def fit_model(dataset: str, store: str, scratch: Path, *, model: dict[str, Any], steps: int = 60, **data: Any) -> str:
    """Fits a network to the train split with full batches and writes the Model; returns its URI."""
    card = load_card(dataset)
    config = DataConfig(**data)
    assembly = choose(build_config(model), card.schema)
    preprocessing = build_preprocessing(assembly, card.schema, config)
    task = make_task(card.schema, config)
    torch.manual_seed(0)
    network = build_network(assembly, preprocessing, task.num_outputs)
    rows = Rows.open(materialise(card, "train", scratch))
    table = rows.take(np.arange(len(rows)))
    arrays = preprocessing(table, training=True, keys=np.arange(len(rows), dtype=np.uint64))
    inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
    targets = torch.from_numpy(task.targets(table))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        task.loss(network(inputs), targets).mean().backward()
        optimizer.step()
    files = model_files(assembly, preprocessing, task_files(task))
    weights = weights_of(snapshot({f"model/{name}": value for name, value in network.state_dict().items()}))
    made = make_card(
        files,
        weights,
        schema=card.schema,
        recipe={},
        run_key="run",
        step=steps,
        checkpoint_uri="",
        dataset={"digest": card.digest, "uri": card.at},
        store=store,
    )
    return write_model(open_store(made.at), made, files, weights)
