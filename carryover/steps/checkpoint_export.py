"""Owns `checkpoint export`: weights of a Model or of a commit as one file that other trainers read.

    safetensors    names of the network -> tensors
    pt             the same, as torch saves a state dict
    guide          {epoch, global_step, model_state_dict, optimizer_state_dict, best_val, val_loss, scaler_state_dict,
                   config}, of a commit: all that a training script goes on with

The last two are what torch.save writes, a zip around a pickle: of tensors, numbers and texts only, so that
torch.load(weights_only=True) reads them. Nothing else here writes one, and a person has to ask for it.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from carryover.carry.tensors import is_adapter
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.log import Record
from carryover.checkpoint.pack import RawTensor
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.models.export import weights_pieces
from carryover.steps.backbone_source import Trained, open_trained
from carryover.train import recipe as recipes

_OPTIMIZER = "optim/"


def export_checkpoint(source: str, output: str, *, form: str, store: str) -> dict[str, Any]:
    """Write one local file, which appears when it is whole; returns what is in it.

    Args:
        source: a Model, or a run's home with or without "@STEP" or "@best"; see backbone_source.py.
        form: one of `FORMS`.

    Raises:
        WrongInput: when there is nothing, the file exists, or the form can't hold it.
    """
    path = Path(output).expanduser()
    if path.exists():
        raise WrongInput(f"-o {output}: is there already; give another name")
    if not path.parent.is_dir():
        raise WrongInput(f"-o {output}: there is no folder {path.parent}")
    trained = open_trained(source, store=store)
    if adapters := [name for name in trained.weights if is_adapter(name)]:
        raise WrongInput(
            f"{source}: has adapters (e.g. {adapters[0]}), which a state dict can't say how much they count; "
            "dump-backbone writes its branches with them merged"
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        FORMS[form](trained, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    say(f"{trained.words}: {len(trained.weights)} tensors as {form}")
    return {"file": str(path), "form": form, "tensors": len(trained.weights), "step": trained.step}


def _safetensors(trained: Trained, path: Path) -> None:
    with path.open("wb") as file:
        for piece in weights_pieces(trained.weights):
            file.write(piece)


def _pt(trained: Trained, path: Path) -> None:
    _save(_restored(trained.weights), path)


def _guide(trained: Trained, path: Path) -> None:
    if trained.checkpoint is None:
        raise WrongInput(
            f"--form guide: {trained.words} has no optimizer; give a commit of its run (RUN_HOME or RUN_HOME@STEP), or "
            "--form pt"
        )
    home = RunHome.at(trained.checkpoint["uri"])
    record = home.log.read(trained.checkpoint["number"])
    state, weights = record.state, _restored(trained.weights)
    settings = recipes.settings_of(home.run()["recipe"], ((last := home.latest_claim()) and last.body["changes"]) or {})
    told = {
        # The guide's epoch is the last one that was begun.
        "epoch": state["epoch"] - (state["position"] == 0 and state["epoch"] > 0),
        "global_step": record.step,
        "model_state_dict": weights,
        "optimizer_state_dict": _optimizer(home, record, list(weights), settings),
        "best_val": state["best_score"],
        "val_loss": None,
        "scaler_state_dict": state["scaler"] or None,
        "config": {name: value for name, value in settings.items() if not isinstance(value, Mapping)},
    }
    _save(told, path)


def _optimizer(home: RunHome, record: Record, order: list[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an optimizer's state as torch has it: one group, parameters numbered in the order of the state dict."""
    import torch

    from carryover.train.optim import OPTIMIZERS

    state: dict[str, dict[str, Any]] = {}
    for full, value in _restored(home.read_tensors(record, _OPTIMIZER)).items():
        name, _, what = full.removeprefix(_OPTIMIZER).rpartition("/")
        state.setdefault(name, {})[what] = value
    names = [name for name in order if name in state]
    rate = float(settings["optimization.learning_rate"])
    plain = OPTIMIZERS[str(settings["optimization.optim_type"])](
        [{"params": [torch.zeros(1)], "weight_decay": float(settings["optimization.weight_decay"])}], rate
    )
    (group,) = plain.state_dict()["param_groups"]
    group |= {"params": list(range(len(names))), "param_names": names}
    return {"state": {place: state[name] for place, name in enumerate(names)}, "param_groups": [group]}


def _restored(tensors: Mapping[str, RawTensor]) -> dict[str, Any]:
    from carryover.checkpoint.snapshot import restore

    return restore(tensors)


def _save(value: Mapping[str, Any], path: Path) -> None:
    import torch

    torch.save(dict(value), path)  # noqa: TID251 - the form that was asked for; plain values and tensors only


FORMS: Mapping[str, Callable[[Trained, Path], None]] = {"guide": _guide, "pt": _pt, "safetensors": _safetensors}
