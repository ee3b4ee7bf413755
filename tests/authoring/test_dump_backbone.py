"""The component dump_backbone in a real process: an artifact or a word in, a folder that transformers opens out."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportReturnType=false

import json
import shutil
from pathlib import Path

from kfp import dsl

from carryover.carry.backbone import find_backbone
from carryover.models.export import find_model
from carryover_kfp import catalog
from carryover_kfp.local import run_here
from carryover_kfp.retries import uncached
from tests.train.attempts import Run, dataset


@dsl.pipeline(name="taken-apart")
def taken_apart(model_uri: str, store: str) -> str:
    """One step."""
    dump_backbone = catalog.load_component("dump_backbone")
    return uncached(dump_backbone(model_uri=model_uri, store=store)).outputs["backbone_uri"]


def test_a_model_is_taken_apart(tmp_path: Path) -> None:
    run = Run(dataset(tmp_path), str(tmp_path / "store"), {"optimization.max_epochs": 1}, tmp_path / "scratch")
    run.go()
    given = {"model_uri": "run:run", "store": run.store}
    finished = run_here(taken_apart, given, root=tmp_path / "root")
    uri = finished.outputs["Output"]
    assert uri.startswith(f"{run.store}/backbones/")
    (artifact,) = finished.folder.glob("**/dump-backbone/backbone")
    (said,) = finished.folder.glob("**/dump-backbone/executor_output.json")
    told = json.loads(said.read_text())["artifacts"]["backbone"]["artifacts"][0]["metadata"]
    assert told["digest"] == find_backbone(uri).card.digest
    assert told["model_digest"] == find_model("run:run", store=run.store).card.digest
    # The artifact is whole: nothing in it needs the store.
    shutil.rmtree(run.store)
    assert (
        find_backbone(str(artifact)).fetch("numerical_mlp", tmp_path / "here").joinpath("model.safetensors").is_file()
    )
