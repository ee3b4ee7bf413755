"""A run on an S3 server that a TrainJob of the loopback cluster trains: the command that asks for it, and its store."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from carryover.checkpoint.home import RunHome
from carryover.ground.storage import Store, open_store
from carryover.steps.prepare_data import prepare_data
from tests.conftest import CarryoverCli
from tests.support import processes
from tests.support.kube_server import KubeServer
from tests.support.processes import Tree
from tests.train.attempts import SMALL, write_rows

RECIPE = {**SMALL, "optimization.max_epochs": 6, "optimization.patience": 1000, "checkpoint.every_steps": 5}


@dataclass(frozen=True)
class Asking:
    """What a person asks for, again and again in the same words."""

    server: KubeServer
    folder: Path
    store: str
    dataset: str

    @classmethod
    def on(cls, server: KubeServer, folder: Path, store: str) -> "Asking":
        """Prepare a small table in the store."""
        made = prepare_data(source=[str(write_rows(folder / "rows.csv"))], label="liked", store=store)
        return cls(server, folder, store, made["uri"])

    def command(self, *flags: object) -> list[str]:
        settings = [word for name, value in RECIPE.items() for word in ("--set", f"{name}={value}")]
        return CarryoverCli(self.folder).command("train-ddp", "--dataset", self.dataset, *settings, *flags)

    def start(self, *flags: object, nodes: int = 1, env: dict[str, Any] | None = None, **job: Any) -> Tree:
        """Start `carryover train-ddp --launcher trainjob`; `env` and `job` are settings of the job."""
        variables = {"AWS_EC2_METADATA_DISABLED": "true", **(env or {})}
        text = yaml.safe_dump({"image": "here/carryover:v0.1.0", "env": variables, **job})
        asked = ["--launcher", "trainjob", "--num-nodes", nodes, "--job", text, "--store", self.store]
        number = len(list(self.folder.glob("asked-*.txt")))
        return processes.start(
            self.command(*asked, "--output", self.folder / f"out-{number}", *flags),
            said=self.folder / f"asked-{number}.txt",
            cwd=self.folder,
            env={"KUBECONFIG": str(self.server.kubeconfig)},
        )

    @property
    def jobs(self) -> Sequence[str]:
        return sorted(self.server.jobs)

    def home(self) -> Store:
        """The home of the one run."""
        place = open_store(self.store)
        (key,) = place.folders("runs")
        return RunHome.open(place, key).store

    def said(self) -> str:
        """What all pods have said, for a test that fails."""
        return "\n".join(f"--- {pod.name}\n{pod.text()}" for pod in self.server.history)

    def commits(self) -> int:
        place = open_store(self.store)
        return sum(len(RunHome.open(place, key).commits()) for key in place.folders("runs"))

    def result(self, tree: Tree) -> dict[str, Any]:
        number = tree.said.stem.removeprefix("asked-")
        return json.loads((self.folder / f"out-{number}" / "result.json").read_text())
