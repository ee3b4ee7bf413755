"""Two ranks: every trainable parameter gets a gradient without a search for unused ones, equal to one rank's."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from tests.models.encoders import save_encoder
from tests.models.test_networks import assemble, batch

RANK = """
import json, sys, torch
from carryover.ground import dist
from tests.models.test_networks import assemble, batch
dist.start(torch.device("cpu"))
assembly, preprocessing, network = assemble(json.loads(sys.argv[1]))
network.eval()  # no dropout; eval changes nothing else here
wrapped = dist.wrap(network, torch.device("cpu"))
inputs = {name: value[dist.rank() * 2 : dist.rank() * 2 + 2] for name, value in batch(preprocessing).items()}
for step in range(2):
    network.zero_grad()
    outputs = wrapped(inputs)
    loss = outputs.logits.square().mean() + sum(weight * logits.square().mean() for weight, logits in outputs.auxiliary)
    loss.backward()
gradients = {name: float(value.grad.norm()) for name, value in network.named_parameters() if value.requires_grad}
if dist.rank() == 0:
    print(json.dumps(gradients))
dist.stop()
"""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "longformer", "t5"])
def test_gradients_of_two_ranks_are_those_of_one(tmp_path, architecture):
    model = {"hf_text": {"checkpoint_name": str(save_encoder(tmp_path / architecture, architecture))}}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1"]
    (tmp_path / "rank.py").write_text(RANK)
    ended = subprocess.run(
        [*torchrun, f"--master-port={port}", str(tmp_path / "rank.py"), json.dumps(model)],
        capture_output=True, text=True, check=False, timeout=200, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.strip().splitlines()[-1])
    _, preprocessing, network = assemble(model)
    network.eval()
    outputs = network(batch(preprocessing))
    loss = outputs.logits.square().mean() + sum(w * logits.square().mean() for w, logits in outputs.auxiliary)
    loss.backward()
    want = {name: float(value.grad.norm()) for name, value in network.named_parameters() if value.grad is not None}
    assert found.keys() == want.keys()
    assert torch.allclose(torch.tensor(list(found.values())), torch.tensor(list(want.values())), rtol=1e-4, atol=1e-7)
