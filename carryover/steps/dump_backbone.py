"""Owns the step dump-backbone: the branches of a trained network as folders that transformers and timm open alone.

<store>/backbones/<digest>/   one folder a branch, report.html and backbone.json
DIR (--output)                the same, and result.json
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from carryover.carry.backbone import described, place_of, write_backbone
from carryover.checkpoint.layout import Damaged
from carryover.ground import bars, storage
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.models.backbone_card import BackboneCard, DumpedBranch, RoundTrip, digest_of
from carryover.report.backbone import backbone_page
from carryover.steps.backbone_source import Trained, open_trained
from carryover.steps.results import resolve_store, write_result
from carryover.tasks.task import restore_task
from carryover.train.outcome import versions

REPORT = "report.html"


def dump_backbone(*, model: str, store: str = "", output: str = "", outputs_dir: str = "") -> dict[str, Any]:
    """Write a Backbone, once it was opened again by its own library and said what was trained.

    Args:
        model: a Model, or a run with or without "@STEP" or "@best"; see backbone_source.py.
        store: where the Backbone is kept, and what run:KEY and champion:NAME are looked up in.

    Returns:
        uri and digest of the Backbone, report (a page about it: path in `output`, else URI), branches (name -> family),
        check (of each), bytes, model_digest, checkpoint_uri, run_key, model_step, seconds. Of the same content the same
        Backbone, which is not written again.

    Raises:
        WrongInput: when there is nothing to dump, or a family has no dump.
        Damaged: when what is stored is not what was written.
        CarryoverError: when the dump is not what was trained; nothing is published then.
    """
    started = time.monotonic()
    if not model:
        raise WrongInput("--model: empty; give a Model's URI, run:KEY, or a run's home with or without @STEP")
    if output:
        # Written to last of all: a place that is not possible is said first.
        storage.scheme_of(output)
    where = resolve_store(store)
    trained = open_trained(model, store=where)
    say(f"dumping {trained.words}")
    with TemporaryDirectory(prefix="carryover-dump-") as scratch:
        with bars.working("writing the branches, and opening them again"):
            card = _dump(trained, Path(scratch), where)
        page = backbone_page(card).encode()
        home = storage.open_store(card.at)
        if not home.exists(REPORT):
            home.write(REPORT, page)
        place = write_backbone(home, card, Path(scratch))
        if output:
            write_backbone(storage.open_store(output), card, Path(scratch))
            storage.open_store(output).write(REPORT, page)
    result = {
        **_result(card),
        "uri": place,
        "report": storage.join(output or place, REPORT),
        "seconds": round(time.monotonic() - started, 3),
    }
    return write_result(result, output, outputs_dir)


def _dump(trained: Trained, folder: Path, store: str) -> BackboneCard:
    # torch is loaded from here on.
    from carryover.checkpoint.snapshot import restore
    from carryover.models.dump import dump
    from carryover.models.export import rebuild

    try:
        outputs = restore_task(trained.files).num_outputs
        assembly, preprocessing, network = rebuild(trained.files, restore(trained.weights), num_outputs=outputs)
    except RuntimeError as error:
        raise Damaged(f"{trained.words}: {' '.join(str(error).split())[:300]}") from error
    check = dump(assembly, preprocessing, network.eval(), folder)
    files = described(folder)
    digest = digest_of(files)
    plain = assembly.portable().to_json()["branches"]
    return BackboneCard(
        digest=digest,
        files=files,
        branches=tuple(DumpedBranch(**{**one, "columns": tuple(one["columns"])}) for one in plain),
        model=trained.model,
        checkpoint=trained.checkpoint,
        run_key=trained.run_key,
        step=trained.step,
        dataset=trained.dataset,
        check=check,
        at=place_of(store, digest),
        parent=trained.parent,
        versions=versions(),
    )


def _result(card: BackboneCard) -> dict[str, Any]:
    return {
        "step": "dump-backbone",
        "digest": card.digest,
        "branches": {branch.name: branch.family for branch in card.branches},
        "check": {name: _words(one) for name, one in card.check.items()},
        "bytes": sum(file.size for file in card.files.values()),
        "model_digest": card.model["digest"] if card.model else "",
        "checkpoint_uri": card.checkpoint["uri"] if card.checkpoint else "",
        "run_key": card.run_key,
        "model_step": card.step,
    }


def _words(one: RoundTrip) -> dict[str, Any]:
    return {"equal": one.equal, "max_difference": one.max_difference, "rtol": one.rtol, "merged": one.merged}
