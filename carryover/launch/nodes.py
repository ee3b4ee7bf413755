"""Owns which node of how many this process is, and where node 0 is found: by flags, or as Kubeflow Trainer says it.

    --num-nodes 2 --node-rank 1 --master-addr A     a machine of one's own: one command on each
    PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR      a pod of a TrainJob: never makes one itself
    neither                                         one node, or the one that asks for a TrainJob

Every node has as many ranks as the others. Node 0 leads: it alone claims, beats and delivers.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from carryover.ground.config import check
from carryover.ground.errors import WrongInput

TORCHRUN, TRAINJOB = "torchrun", "trainjob"
LAUNCHERS = (TORCHRUN, TRAINJOB)
PORT = 29500
JOIN_VARIABLE = "CARRYOVER_JOIN_SECONDS"
# A node may have to wait for a machine, and for its image to come.
_JOIN_SECONDS = 3600.0
# torchrun's own patience must not end before ours, which has words for it.
_BEYOND_SECONDS = 600


@dataclass(frozen=True)
class Nodes:
    """Which node this is. `address` and `port` are where node 0 listens for the others; no matter to one alone."""

    count: int = 1
    rank: int = 0
    address: str = ""
    port: int = PORT

    @property
    def leads(self) -> bool:
        """Tell whether this is node 0."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Tell whether there are other nodes."""
        return self.count > 1

    def torchrun(self, ranks: int) -> list[str]:
        """Return torchrun's flags for this node and its `ranks`."""
        if not self.several:
            return ["--standalone", "--nnodes=1", f"--nproc-per-node={ranks}"]
        return [
            f"--nnodes={self.count}",
            f"--node-rank={self.rank}",
            f"--master-addr={self.address}",
            f"--master-port={self.port}",
            f"--rdzv-conf=timeout={int(join_seconds() + _BEYOND_SECONDS)}",
            f"--nproc-per-node={ranks}",
        ]

    def words(self, ranks: int) -> str:
        """Return how many ranks there are, in words."""
        return f"{ranks} on each of {self.count} nodes, this is node {self.rank}" if self.several else str(ranks)


ALONE = Nodes()


def join_seconds() -> float:
    """Return how long a node waits for the others.

    Raises:
        WrongInput: when the environment says no number.
    """
    given = os.environ.get(JOIN_VARIABLE, "")
    try:
        seconds = float(given or _JOIN_SECONDS)
    except ValueError:
        seconds = -1.0
    check(seconds > 0, JOIN_VARIABLE, given, "seconds, above 0")
    return seconds


def is_trainjob_node(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this is a pod of a TrainJob."""
    return "PET_NNODES" in environment or "PET_NODE_RANK" in environment


def ranks_asked(asked: int | None, environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the ranks that a person, or Trainer, asks for on this node; None for as many as the recipe allows."""
    given = environment.get("PET_NPROC_PER_NODE", "")
    if asked is not None or not is_trainjob_node(environment) or not given.isdigit():
        return asked
    return _number("PET_NPROC_PER_NODE", given, least=1)


def nodes_of(
    *,
    launcher: str = TORCHRUN,
    num_nodes: int = 1,
    node_rank: int | None = None,
    master_addr: str = "",
    master_port: int = PORT,
    environment: Mapping[str, str] = os.environ,
) -> Nodes:
    """Return which node this is, by the flags of that name or by what Trainer set.

    Raises:
        WrongInput: when they don't say it, or contradict each other.
    """
    check(launcher in LAUNCHERS, "--launcher", launcher, f"one of {', '.join(LAUNCHERS)}")
    check(num_nodes >= 1, "--num-nodes", num_nodes, "1 or more")
    check(1 <= master_port <= 65535, "--master-port", master_port, "a port, 1 to 65535")
    if is_trainjob_node(environment):
        if node_rank is not None or master_addr:
            raise WrongInput(
                "--node-rank, --master-addr: this is a pod of a TrainJob (PET_NNODES is set), which knows both; leave "
                "them out"
            )
        return _of_trainjob(environment)
    if launcher == TRAINJOB:
        if node_rank is not None or master_addr:
            raise WrongInput("--node-rank, --master-addr: not for --launcher trainjob, whose pods are the nodes")
        return ALONE
    if node_rank is None:
        if num_nodes > 1 or master_addr:
            raise WrongInput(
                f"--num-nodes {num_nodes}: this start does not say which node it is. Give --node-rank R and "
                "--master-addr A on each machine, or --launcher trainjob to let Kubeflow Trainer start them all, or "
                "leave out --num-nodes for one machine"
            )
        return ALONE
    check(0 <= node_rank < num_nodes, "--node-rank", node_rank, f"0 to {num_nodes - 1}, as --num-nodes is {num_nodes}")
    if num_nodes > 1 and not master_addr:
        raise WrongInput("--master-addr: missing; give the name or address of node 0, the same on every node")
    return Nodes(num_nodes, node_rank, master_addr, master_port)


def _of_trainjob(environment: Mapping[str, str]) -> Nodes:
    # torchrun's own form is MIN:MAX; Trainer's jobs are of one size.
    count = _number("PET_NNODES", environment.get("PET_NNODES", "1").rpartition(":")[2], least=1)
    rank = _number("PET_NODE_RANK", environment.get("PET_NODE_RANK", "0"), least=0)
    check(rank < count, "PET_NODE_RANK", rank, f"below PET_NNODES, which is {count}")
    address = environment.get("PET_MASTER_ADDR", "")
    if count > 1 and not address:
        raise WrongInput("PET_MASTER_ADDR: missing; with PET_NNODES above 1 it must name node 0")
    return Nodes(
        count, rank, address, _number("PET_MASTER_PORT", environment.get("PET_MASTER_PORT", str(PORT)), least=1)
    )


def _number(name: str, text: str, *, least: int) -> int:
    check(text.isdigit() and int(text) >= least, name, text, f"a whole number, {least} or above")
    return int(text)
