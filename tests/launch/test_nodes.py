"""Which node a start is, by flags and by what Trainer sets, and what is refused."""

from typing import Any

import pytest

from carryover.ground.errors import WrongInput
from carryover.launch.nodes import ALONE, Nodes, nodes_of, ranks_asked

POD = {
    "PET_NNODES": "2",
    "PET_NODE_RANK": "1",
    "PET_NPROC_PER_NODE": "4",
    "PET_MASTER_ADDR": "job-node-0-0.job",
    "PET_MASTER_PORT": "29400",
}


@pytest.mark.parametrize(
    ("flags", "environment", "wanted"),
    [
        ({}, {}, ALONE),
        ({"num_nodes": 2, "node_rank": 1, "master_addr": "a"}, {}, Nodes(2, 1, "a")),
        ({"num_nodes": 1, "node_rank": 0}, {}, ALONE),
        ({}, POD, Nodes(2, 1, "job-node-0-0.job", 29400)),
        # A pod never makes a job of its own, whatever its command says.
        ({"launcher": "trainjob", "num_nodes": 2}, POD, Nodes(2, 1, "job-node-0-0.job", 29400)),
        ({}, {"PET_NNODES": "1"}, ALONE),
        ({"launcher": "trainjob", "num_nodes": 2}, {}, ALONE),
    ],
)
def test_which_node_it_is(flags: dict[str, Any], environment: dict[str, str], wanted: Nodes) -> None:
    assert nodes_of(**flags, environment=environment) == wanted


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        ({"num_nodes": 2}, {}, "--node-rank R and --master-addr A on each machine, or --launcher trainjob"),
        ({"num_nodes": 2, "node_rank": 2, "master_addr": "a"}, {}, "0 to 1"),
        ({"num_nodes": 2, "node_rank": 0}, {}, "--master-addr: missing"),
        ({"node_rank": 0}, POD, "leave them out"),
        ({"launcher": "trainjob", "node_rank": 0}, {}, "not for --launcher trainjob"),
        ({"launcher": "slurm"}, {}, "one of torchrun, trainjob"),
        ({}, {**POD, "PET_NODE_RANK": "2"}, "below PET_NNODES"),
        ({}, {**POD, "PET_MASTER_ADDR": ""}, "PET_MASTER_ADDR: missing"),
        ({}, {"PET_NNODES": "many"}, "a whole number"),
    ],
)
def test_what_is_refused(flags: dict[str, Any], environment: dict[str, str], words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        nodes_of(**flags, environment=environment)


def test_ranks_of_a_pod_are_those_that_trainer_says_unless_a_person_does() -> None:
    assert ranks_asked(None, POD) == 4
    assert ranks_asked(2, POD) == 2
    assert ranks_asked(None, {**POD, "PET_NPROC_PER_NODE": "auto"}) is None
    assert ranks_asked(None, {"PET_NPROC_PER_NODE": "4"}) is None
