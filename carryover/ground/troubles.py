"""Owns which trouble an error is where its raise site does not say: a table of modules, read from the longest name on.

    error  --trouble-->  name, e.g. "wrong-label"  --`carryover explain NAME`-->  its entry in troubles.md

The table is for WrongInput; other kinds of error say their trouble at the class or at the raise site.
"""

from collections.abc import Mapping

# What nobody has a name for: ours to mend.
INTERNAL = "internal"
INTERRUPTED = "interrupted"

BY_MODULE: Mapping[str, str] = {
    "carryover.api": "wrong-flags",
    "carryover.carry.backbone": "not-a-backbone",
    "carryover.carry.champion": "no-champion",
    "carryover.carry.class_scores": "too-few-rows",
    "carryover.carry.folders": "not-a-backbone",
    "carryover.carry.foreign": "not-a-backbone",
    "carryover.carry.gate": "wrong-flags",
    "carryover.carry.grow": "does-not-fit-model",
    "carryover.carry.lineage": "not-a-model",
    "carryover.carry.tables": "nothing-fits",
    "carryover.carry.take": "nothing-fits",
    "carryover.carry.tensors": "not-a-backbone",
    "carryover.carry.transfer": "wrong-value",
    "carryover.checkpoint": "no-such-run",
    "carryover.checkpoint.layout": "wrong-value",
    "carryover.cli": "wrong-flags",
    "carryover.data": "unreadable-data",
    "carryover.data.boxes": "unknown-class",
    "carryover.data.columns": "wrong-column",
    "carryover.data.dense_settle": "wrong-label",
    "carryover.data.drift": "drifted",
    "carryover.data.follow": "drifted",
    "carryover.data.manifest": "not-a-dataset",
    "carryover.data.mix": "does-not-fit-model",
    "carryover.data.mixup": "wrong-value",
    "carryover.data.problem": "wrong-label",
    "carryover.data.rows": "not-a-dataset",
    "carryover.data.schema": "wrong-column",
    "carryover.data.survey": "wrong-label",
    "carryover.data.tally": "wrong-label",
    "carryover.ground.config": "wrong-value",
    "carryover.ground.registry": "unknown-key",
    "carryover.ground.storage": "not-there",
    "carryover.ground.uris": "bad-uri",
    "carryover.launch": "wrong-flags",
    "carryover.launch.cluster": "cluster-refused",
    "carryover.models": "wrong-value",
    "carryover.models.assembly": "wrong-families",
    "carryover.models.backbone_card": "not-a-backbone",
    "carryover.models.clip_source": "wrong-pretrained",
    "carryover.models.columns": "does-not-fit-model",
    "carryover.models.export": "not-a-model",
    "carryover.models.hf_source": "wrong-pretrained",
    "carryover.models.hf_text": "wrong-pretrained",
    "carryover.models.mmdet_config": "wrong-pretrained",
    "carryover.models.mmdet_layers": "wrong-pretrained",
    "carryover.models.mmdet_source": "wrong-pretrained",
    "carryover.models.registry": "wrong-families",
    "carryover.models.sam_source": "wrong-pretrained",
    "carryover.models.timm_source": "wrong-pretrained",
    "carryover.models.token_weights": "wrong-pretrained",
    "carryover.steps": "wrong-flags",
    "carryover.steps.backbone_source": "no-such-run",
    "carryover.steps.checkpoint_export": "path-refused",
    "carryover.steps.checkpoint_import": "nothing-fits",
    "carryover.steps.earlier": "does-not-fit-model",
    "carryover.steps.fit": "does-not-fit-model",
    "carryover.steps.job_command": "local-place",
    "carryover.steps.reference": "not-a-model",
    "carryover.steps.results": "local-place",
    "carryover.tasks": "wrong-value",
    "carryover.train": "wrong-value",
    "carryover.train.distiller": "not-a-model",
    "carryover.train.environment": "not-enough-gpus",
    "carryover.train.nodes": "nodes-apart",
    "carryover.train.outcome": "not-a-model",
    "carryover.train.parts": "no-such-run",
    "carryover.train.refused": "not-supported",
    "carryover.train.setup": "not-enough-gpus",
    "carryover.train.teacher": "does-not-fit-model",
    "carryover_kfp": "wrong-flags",
    "carryover_kfp.catalog": "wrong-value",
    "carryover_kfp.cron": "wrong-value",
    "carryover_kfp.docker": "missing-package",
    "carryover_kfp.login": "kfp-refused",
    "carryover_kfp.pod": "wrong-value",
    "carryover_kfp.remote": "kfp-refused",
    "carryover_kfp.rules": "wrong-value",
}


def of_module(name: str) -> str:
    """Return the trouble of a WrongInput raised in this module without a name; INTERNAL for a module of others."""
    while name:
        if name in BY_MODULE:
            return BY_MODULE[name]
        name = name.rpartition(".")[0]
    return INTERNAL
