"""Owns how ranks of several nodes come to one spec: node 0's, with the files that lie on each node.

node 0      plan, claim  -> spec --- broadcast ---> settings, handoff, lost step
node r      plan         -> spec ------------------> its own files and store, if its run is the same

Every node planned by itself, so a node that was started for another run is found out here, on every rank.
"""

import json
from collections.abc import Mapping
from dataclasses import replace

import torch

from carryover.ground import dist
from carryover.ground.errors import WrongInput
from carryover.train.spec import Spec


def agreed(spec: Spec, device: torch.device) -> Spec:
    """Return the spec that all ranks go by. Collective; on one node it is the one given.

    Raises:
        WrongInput: on every rank, when the nodes were started for different runs.
    """
    if dist.nodes() == 1:
        return spec
    _check_keys(spec.run_key, device)
    led = Spec(**json.loads(dist.bytes_from_first(json.dumps(spec.as_json()).encode(), device)))
    return replace(
        led,
        home=spec.home,
        rows=spec.rows,
        old_rows=spec.old_rows,
        progress=spec.progress,
        scratch=spec.scratch,
        first_step=spec.first_step,
        # Node 0 decides whether the run still needs what it started from; the files are our own.
        source=spec.source if led.source else None,
    )


def _check_keys(run_key: str, device: torch.device) -> None:
    mine = torch.tensor([list(run_key.encode())], dtype=torch.uint8, device=device)
    keys = [bytes(row.flatten().tolist()).decode() for row in dist.gather_rows(mine.T)]
    if len(set(keys)) > 1:
        raise WrongInput(_words(dict(enumerate(keys))))


def _words(keys: Mapping[int, str]) -> str:
    of = {key: [rank for rank, other in keys.items() if other == key] for key in keys.values()}
    runs = "; ".join(f"run {key} on rank {', '.join(map(str, ranks))}" for key, ranks in of.items())
    return f"the nodes train different runs ({runs}); give every node the same data, recipe and version"
