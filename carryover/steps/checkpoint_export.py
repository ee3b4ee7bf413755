"""Owns `checkpoint export`: the weights of a Model or of a commit as one safetensors file, by the network's names.

No other form is written: what torch.save writes is a pickle, and nothing here writes one.
"""

import os
from pathlib import Path
from typing import Any

from carryover.carry.tensors import is_adapter
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.models.export import weights_pieces
from carryover.steps.backbone_source import open_trained


def export_checkpoint(source: str, output: str, *, store: str) -> dict[str, Any]:
    """Write one local file, which appears when it is whole; returns what is in it.

    Args:
        source: a Model, or a run's home with or without "@STEP" or "@best"; see backbone_source.py.

    Raises:
        WrongInput: when there is nothing, the file exists or is to be of another kind, or adapters would be lost.
    """
    path = Path(output).expanduser()
    if path.suffix != ".safetensors":
        raise WrongInput(f"-o {output}: only safetensors are written, never a pickle; call it {path.stem}.safetensors")
    if path.exists():
        raise WrongInput(f"-o {output}: is there already; give another name")
    if not path.parent.is_dir():
        raise WrongInput(f"-o {output}: there is no folder {path.parent}")
    trained = open_trained(source, store=store)
    if adapters := [name for name in trained.weights if is_adapter(name)]:
        raise WrongInput(
            f"{source}: has adapters (e.g. {adapters[0]}), and a state dict can't say how much they count; "
            "dump-backbone writes its branches with them merged",
            trouble="not-supported",
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            for piece in weights_pieces(trained.weights):
                file.write(piece)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    say(f"{trained.words}: its weights, without optimizer")
    return {"file": str(path), "tensors": len(trained.weights), "step": trained.step}
