"""Owns the verbs that train: a new run or one that goes on, an extension, a transfer, a run by its key.

    train(data, optimization={"max_epochs": 3})       steps/train_ddp
    train(new_data, init_from=model)                  the same, from a Model
    transfer(backbone, other_data)                    steps/transfer_train
    run.resume(optimization={"max_epochs": 6})        train with run_key

Ranks are processes of their own: this one loads no torch, and an interrupt (SIGINT, a notebook's stop button) is a
preemption to them. They save, and RunAgain says so.
"""

import inspect
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from carryover.api import places
from carryover.api.model import Model, model_of
from carryover.api.saying import spoken
from carryover.api.settings import Recipe, overrides, recipe_text
from carryover.ground.errors import WrongInput
from carryover.launch.nodes import TORCHRUN

if TYPE_CHECKING:
    from carryover.api.run import Run

Place = str | os.PathLike[str]


@spoken()
def train(
    dataset: Any,
    *,
    recipe: Recipe = "",
    store: Place = "",
    output: Place = "",
    run_key: str = "",
    init_from: Any = None,
    grow_classes: bool = False,
    owner: str = "",
    takeover: bool = False,
    resume: str | Mapping[str, Any] = "auto",
    nproc_per_node: int | None = None,
    time_limit: float | None = None,
    grace_seconds: float | None = None,
    trust_pickle: bool = False,
    launcher: str = TORCHRUN,
    num_nodes: int = 1,
    job: Recipe = "",
    **settings: Any,
) -> Model:
    """Train, or go on training, and return the Model.

    The run is named by its data and its settings: the same call finds its own checkpoints again after any kind of end
    (an interrupt, a killed kernel, another machine), and returns the Model at once when it is finished.

    Args:
        dataset: a Dataset, or the URI of one.
        recipe: path of a YAML file, YAML text, or a dict with nested or dotted keys.
        store: where all that lasts is kept. "": the store of the Dataset, else `./.carryover`.
        output: a folder that gets the Model, its report and result.json too.
        run_key: go on with this run; keys not given come from it.
        init_from: a Model to extend: a Model, its URI, "run:KEY" or "champion:NAME".
        grow_classes: let the data bring classes that this Model does not know.
        owner: who runs this (a workflow's id), so that a retry supersedes its older attempt at once. "": this process.
        takeover: take the run even from an owner that is alive.
        resume: "auto", "never" (refuse a run that has commits) or "must" (refuse to start from zero); a dict is the
            recipe's section of that name.
        nproc_per_node: ranks. None: one for each GPU that env.num_gpus allows, one without any.
        time_limit: seconds of training, over all attempts of the run (see resume.time_limit).
        grace_seconds: how long ranks may take to save after an interrupt. None: 25, and 90 in the pods of a TrainJob.
        trust_pickle: let pickled weights of others hold more than tensors, which is to run code in them.
        launcher: "torchrun" (ranks here) or "trainjob": a TrainJob of `num_nodes` pods trains, and is waited for.
        num_nodes: machines of a TrainJob.
        job: settings of its pods, like `recipe`.
        settings: keys of the recipe, which win over it: sections as dicts (`env={"batch_size": 32}`) or dotted names
            (`**{"optimization.learning_rate": 2e-5}`); `seed`, `presets`.

    Raises:
        WrongInput: whatever can't be used, one line, before an accelerator is touched.
        RunAgain: interrupted or preempted, and saved; a rank or the store was lost. The same call goes on.
        Superseded: another attempt has this run now.
        NoProgress: three attempts of one owner ended without a new commit.
    """
    from carryover.steps.train_ddp import train_ddp

    result = train_ddp(
        dataset=places.word(dataset, what="dataset"),
        store=places.store_among(store, dataset, init_from),
        output=os.fspath(output),
        recipe=recipe_text(recipe),
        overrides=_overrides(settings, resume, train),
        run_key=run_key,
        init_from=places.word(init_from, what="init_from"),
        grow_classes=grow_classes,
        owner=owner,
        takeover=takeover,
        resume=resume if isinstance(resume, str) else "auto",
        nproc_per_node=nproc_per_node,
        time_limit=time_limit,
        grace_seconds=grace_seconds,
        trust_pickle=trust_pickle,
        launcher=launcher,
        num_nodes=num_nodes,
        job=recipe_text(job),
    )
    return _model(result)


@spoken()
def transfer(
    backbone: Any,
    dataset: Any,
    *,
    strict: bool = False,
    recipe: Recipe = "",
    store: Place = "",
    output: Place = "",
    run_key: str = "",
    owner: str = "",
    takeover: bool = False,
    resume: str | Mapping[str, Any] = "auto",
    nproc_per_node: int | None = None,
    time_limit: float | None = None,
    grace_seconds: float | None = None,
    trust_pickle: bool = False,
    launcher: str = TORCHRUN,
    num_nodes: int = 1,
    job: Recipe = "",
    **settings: Any,
) -> Model:
    """Train a new task from other weights, or go on with it, and return the Model; `result["transfer"]` tells them all.

    Args:
        backbone: a Backbone or a Model; a URI of one, "run:KEY", "champion:NAME"; a folder of transformers, timm or
            AutoMM, a file with a state dict, or a name of timm's or the hub's.
        dataset: a Dataset, or the URI of one; schema, classes and head are those of its data.
        strict: any gap (new tensors but for heads, resized or ignored ones) is an error.
        recipe, store, output, run_key, owner, takeover, resume, nproc_per_node, time_limit, grace_seconds,
            trust_pickle, launcher, num_nodes, job, settings: as in `train`.

    Raises:
        CarryoverError: as `train`.
    """
    from carryover.steps.transfer_train import transfer_train

    result = transfer_train(
        backbone=places.word(backbone, what="backbone"),
        dataset=places.word(dataset, what="dataset"),
        strict=strict,
        store=places.store_among(store, dataset, backbone),
        output=os.fspath(output),
        recipe=recipe_text(recipe),
        overrides=_overrides(settings, resume, transfer),
        run_key=run_key,
        owner=owner,
        takeover=takeover,
        resume=resume if isinstance(resume, str) else "auto",
        nproc_per_node=nproc_per_node,
        time_limit=time_limit,
        grace_seconds=grace_seconds,
        trust_pickle=trust_pickle,
        launcher=launcher,
        num_nodes=num_nodes,
        job=recipe_text(job),
    )
    return _model(result)


def resumed(run: "Run", settings: Mapping[str, Any]) -> Model:
    """Go on with a run that is in a store; see `Run.resume`."""
    given: dict[str, Any] = {"store": run.store, **settings, "run_key": run.key}
    if run.backbone and not run.step:
        # Until its first commit a transfer needs what it starts from.
        return transfer(run.backbone, run.dataset_uri, **given)
    return train(run.dataset_uri, **given)


def _model(result: Mapping[str, Any]) -> Model:
    if not result:
        raise WrongInput("this is a node of a TrainJob that does not lead; node 0 gives the Model")
    return model_of(result["uri"], store="", result=result)


def _overrides(settings: Mapping[str, Any], resume: str | Mapping[str, Any], verb: Any) -> list[str]:
    section = {"resume": resume} if isinstance(resume, Mapping) else {}
    names = [name for name, one in inspect.signature(verb).parameters.items() if one.kind is one.KEYWORD_ONLY]
    return overrides({**settings, **section}, arguments=names)
