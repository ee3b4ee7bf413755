"""Owns the step transfer-train: train-ddp for a new task that starts from a Backbone, a Model or any checkpoint.

    source      found, its content named              steps/transfer.py
    run         as in train-ddp; its identity holds the source's content
    rank        network of the new task; weights that fit by name and shape are put in; a table says which

The schema, the classes and the head are those of the new data. After its first commit the run needs the source no
more.
"""

from collections.abc import Sequence
from typing import Any

from carryover.ground.errors import WrongInput
from carryover.launch.nodes import PORT, TORCHRUN
from carryover.steps.train_ddp import train_ddp


def transfer_train(
    *,
    backbone: str,
    dataset: str,
    store: str = "",
    output: str = "",
    outputs_dir: str = "",
    strict: bool = False,
    recipe: str = "",
    overrides: Sequence[str] = (),
    run_key: str = "",
    owner: str = "",
    takeover: bool = False,
    resume: str = "auto",
    nproc_per_node: int | None = None,
    time_limit: float | None = None,
    grace_seconds: float | None = None,
    trust_pickle: bool = False,
    launcher: str = TORCHRUN,
    num_nodes: int = 1,
    node_rank: int | None = None,
    master_addr: str = "",
    master_port: int = PORT,
    job: str = "",
    lease: str = "",
    lease_seconds: float = 1800,
) -> dict[str, Any]:
    """Train a new task from other weights, or go on with it, and return the result (also in DIR/result.json).

    Args:
        backbone: a Backbone, a Model (run:KEY and champion:NAME too), a folder of transformers, timm or AutoMM, a file
            with a state dict, or a name of timm's or the hub's.
        strict: whether any gap (new tensors but for heads, resized or ignored ones) is an error.
        dataset, store, output, outputs_dir, recipe, overrides, run_key, owner, takeover, resume, nproc_per_node,
            time_limit, grace_seconds, trust_pickle, launcher, num_nodes, node_rank, master_addr, master_port, job,
            lease, lease_seconds: as in train-ddp.

    Raises:
        CarryoverError: with the exit code of the design.
    """
    if not backbone:
        raise WrongInput("--backbone: empty; give what the new task starts from, or use train-ddp to start anew")
    return train_ddp(
        backbone=backbone,
        strict=strict,
        dataset=dataset,
        store=store,
        output=output,
        outputs_dir=outputs_dir,
        recipe=recipe,
        overrides=overrides,
        run_key=run_key,
        owner=owner,
        takeover=takeover,
        resume=resume,
        nproc_per_node=nproc_per_node,
        time_limit=time_limit,
        grace_seconds=grace_seconds,
        trust_pickle=trust_pickle,
        launcher=launcher,
        num_nodes=num_nodes,
        node_rank=node_rank,
        master_addr=master_addr,
        master_port=master_port,
        job=job,
        lease=lease,
        lease_seconds=lease_seconds,
    )
