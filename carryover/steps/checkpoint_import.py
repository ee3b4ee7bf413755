"""Owns `checkpoint import`: a training of another program becomes a run whose first commit goes on where it stopped.

    {model_state_dict, optimizer_state_dict, global_step, epoch, scaler_state_dict, best_val}     the resume guide's
    {model, optimizer, step, epoch, scaler, best}                                                 likewise
    anything else that transfer-train reads                                                       weights: from step 0

Optimizer state goes by parameter names. torch numbers parameters in the order of their groups: a single group is in the
order of the state dict, several are only told apart by the names that newer optimizers write ("param_names").
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from carryover.carry import tables
from carryover.carry.foreign import Source
from carryover.carry.match import Match
from carryover.carry.transfer import placed
from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.writer import Writer
from carryover.ground.console import say
from carryover.ground.digests import canonical
from carryover.ground.errors import CarryoverError, WrongInput
from carryover.models import trust
from carryover.models.assembly import build_network, build_preprocessing, choose
from carryover.models.export import model_files
from carryover.steps.plan import Plan, make_plan
from carryover.tasks.task import make_task, task_files
from carryover.train import recipe as recipes
from carryover.train.outcome import versions
from carryover.train.state import RunState

if TYPE_CHECKING:
    from torch import Tensor

    from carryover.models.layers import Network

FORMAT, IMPORT = 1, "import"
OPTIMIZER = ("optimizer_state_dict", "optimizer")
STEP, EPOCH, SCALER, BEST = ("global_step", "step"), ("epoch",), ("scaler_state_dict", "scaler"), ("best_val", "best")
# Type of optimizer -> what it keeps of a parameter.
KEPT = {
    "adam": {"step", "exp_avg", "exp_avg_sq"},
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
    "sgd": {"momentum_buffer"},
}
_SCALER_KEYS = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "position_ids", "token_type_ids")


def import_checkpoint(
    source: str,
    *,
    dataset: str,
    store: str = "",
    recipe: str = "",
    overrides: Sequence[str] = (),
    weights_only: bool = False,
    keep_best: bool = False,
    strict: bool = False,
    trust_pickle: bool = False,
) -> dict[str, Any]:
    """Write a run with one commit; `train-ddp --run-key` goes on with it.

    Args:
        weights_only: leave optimizer and counters behind: step 0.
        keep_best: its best value is one of optimization.val_metric, to be beaten by the next ones.

    Raises:
        WrongInput: when nothing fits, optimizer state can't be told apart, or there is such a run already.
    """
    if not source:
        raise WrongInput("checkpoint import: empty; name the file to import", trouble="wrong-flags")
    with TemporaryDirectory(prefix="carryover-import-") as folder, trust.pickles(trusted=trust_pickle):
        plan = _imported(
            make_plan(dataset, store, recipe, overrides, "", "", None, backbone=source, scratch=Path(folder))
        )
        if plan.home.exists():
            raise WrongInput(
                f"{source}: was imported for this data and recipe already: train-ddp --run-key {plan.run_key} goes on"
            )
        assert plan.sought is not None
        plan.sought.copy()
        return _write(plan, plan.sought.source, weights_only=weights_only, keep_best=keep_best, strict=strict)


def _imported(plan: Plan) -> Plan:
    """Return the plan of a run of its own: a transfer from the same file starts at step 0, and is another one."""
    assert plan.parent is not None
    parent = replace(plan.parent, kind=IMPORT)
    run_key = recipes.run_key(plan.card.digest, parent.identity, recipes.identity(plan.recipe))
    return replace(plan, parent=parent, run_key=run_key, home=RunHome.open(plan.store, run_key))


def _write(plan: Plan, source: Source, *, weights_only: bool, keep_best: bool, strict: bool) -> dict[str, Any]:
    from carryover.checkpoint.snapshot import snapshot

    if plan.recipe.optimization.adaptation:
        raise WrongInput("optimization.peft: adapters can't be added to an import; leave it out, or use transfer-train")
    whole = {} if weights_only else _whole(source)
    network, files, found, noted = _begin(plan, source, strict=strict)
    tensors: dict[str, Tensor] = {f"model/{name}": value for name, value in network.state_dict().items()}
    trained = {name for name, value in network.named_parameters() if value.requires_grad}
    optimizer = _optimizer(whole, found, source, trained, plan)
    state = _state(whole, plan, keep_best=keep_best)
    plan.home.start(_run_json(plan))
    writer = claim(plan.home)
    if writer is None:
        raise CarryoverError(f"run {plan.run_key}: another process finished it meanwhile", trouble="busy")
    plan.home.store.write(tables.FILE, noted)
    saved = snapshot({**tensors, **optimizer})
    writer = Writer.resume(plan.home, writer.handoff(), None)
    record = writer.commit(step=state.step, epoch=state.epoch, tensors=saved, files=files, state=state.as_json())
    for line in tables.lines(found):
        say(line)
    say(f"optimizer: {len({name.rpartition('/')[0] for name in optimizer}) or 'no'} parameters with their state")
    if not whole:
        say("weights only: it starts at step 0, with a fresh optimizer")
    counts = {kind: len(getattr(found, kind)) for kind in ("loaded", "new", "ignored")}
    where = {"run_key": plan.run_key, "checkpoint_uri": plan.home.store.uri, "record": record.number}
    return {**where, "step": state.step, "epoch": state.epoch, "optimizer_tensors": len(optimizer), **counts}


def _begin(plan: Plan, source: Source, *, strict: bool) -> "tuple[Network, dict[str, bytes], Match, bytes]":
    """Return the network with the weights that fit, the files of a Model, and what became of every tensor."""
    import torch

    from carryover.carry.take import heads, take

    recipe, schema = plan.recipe, plan.schema
    assembly = choose(placed(recipe.model, source), schema, recipe.data)
    task = make_task(schema, recipe.data, loss_func=recipe.optimization.loss_func)
    preprocessing = build_preprocessing(assembly, schema, recipe.data)
    torch.manual_seed(recipe.seed)
    network = build_network(assembly, preprocessing, task.num_outputs)
    found = take(network, assembly, preprocessing, task, source)
    tables.check(found, source, heads=heads(assembly), strict=strict)
    noted = canonical(tables.summary(found, source, heads=heads(assembly)))
    return network, model_files(assembly, preprocessing, task_files(task)), found, noted


def _whole(source: Source) -> dict[str, Any]:
    """Return a trainer's dict; {} where there are weights alone."""
    from carryover.carry.tensors import read_whole

    if source.form != "file" or source.weights.endswith(".safetensors"):
        return {}
    whole = read_whole(source.path(source.weights))
    return whole if _first(whole, OPTIMIZER) else {}


def _first(whole: Mapping[str, Any], words: Sequence[str]) -> Any:
    return next((whole[word] for word in words if whole.get(word) is not None), None)


def _optimizer(
    whole: Mapping[str, Any], found: Match, source: Source, trained: set[str], plan: Plan
) -> "dict[str, Tensor]":
    """Return the optimizer's state by our names, as a commit has it."""
    said: Any = _first(whole, OPTIMIZER)
    if not said or not said.get("state"):
        return {}
    from carryover.carry.tensors import state_dict

    weights = state_dict(whole, source.weights)
    names = _names(said, list(weights))
    kind = plan.recipe.optimization.optim_type
    ours, tensors = {fate.source: fate.name for fate in found.loaded}, {}
    for place, kept in said["state"].items():
        name = names[int(place)]
        if kind not in KEPT or not set(kept) <= KEPT[kind] | {"max_exp_avg_sq"}:
            raise _refused(f"it keeps {', '.join(map(str, kept))}, which is not of optimization.optim_type '{kind}'")
        for what, value in kept.items():
            if what != "step" and value is not None and tuple(value.shape) != tuple(weights[name].shape):
                raise _refused(f"the {what} of {name} has another shape than it")
            if ours.get(name) in trained and value is not None and what in KEPT[kind]:
                tensors[f"optim/{ours[name]}/{what}"] = _tensor(value)
    return tensors


def _names(said: Mapping[str, Any], order: list[str]) -> dict[int, str]:
    """Return the number of each parameter -> its name in the state dict."""
    groups = said["param_groups"]
    if all("param_names" in group for group in groups):
        pairs = [pair for group in groups for pair in zip(group["params"], group["param_names"], strict=True)]
        lost = [name for _, name in pairs if name not in order]
        if lost:
            raise _refused(f"it names {lost[0]}, which the state dict does not have")
        return {int(place): name for place, name in pairs}
    if len(groups) > 1:
        raise _refused(f"it has {len(groups)} groups without names, so which parameter is which can't be told")
    parameters = [name for name in order if not name.endswith(_BUFFERS)]
    if len(groups[0]["params"]) != len(parameters):
        raise _refused(f"it has {len(groups[0]['params'])} parameters, the state dict {len(parameters)}")
    return {int(place): name for place, name in zip(groups[0]["params"], parameters, strict=True)}


def _refused(why: str) -> WrongInput:
    return WrongInput(f"optimizer state: {why}; --weights-only leaves it out and starts at step 0")


def _tensor(value: Any) -> "Tensor":
    import torch

    return value if isinstance(value, torch.Tensor) else torch.tensor(float(value))


def _state(whole: Mapping[str, Any], plan: Plan, *, keep_best: bool) -> RunState:
    """Return where a run stands that goes on behind the epoch that was saved."""
    state = RunState()
    if keep_best and _first(whole, BEST) is None:
        raise WrongInput("--keep-best: the file has no best value (best_val or best)")
    if not whole:
        return state
    step, epoch = _first(whole, STEP), _first(whole, EPOCH)
    if step is None:
        raise WrongInput("the file has optimizer state and no step (global_step or step); --weights-only starts at 0")
    state.step = int(step)
    # Saved at the end of an epoch, as the guide does it; where it stood within one is not in the file.
    state.epoch = 0 if epoch is None else int(epoch) + 1
    state.samples = state.epoch * plan.limits.rows
    if keep_best:
        state.best_score, state.best_step = float(_first(whole, BEST)), state.step
    scaler = _first(whole, SCALER) or {}
    state.scaler = {key: float(scaler[key]) for key in _SCALER_KEYS if key in scaler}
    return state


def _run_json(plan: Plan) -> dict[str, Any]:
    parent = plan.parent
    assert parent is not None
    return {
        "format": FORMAT,
        "run_key": plan.run_key,
        "recipe": plan.recipe.flat(),
        "identity": recipes.identity(plan.recipe),
        "dataset": {"digest": plan.card.digest, "uri": plan.card.at},
        "parent": parent.to_json(),
        "versions": versions(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
