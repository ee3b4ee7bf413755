"""Owns zero-shot classification: a Model that nobody trained, made of a CLIP checkpoint and the names of the classes.

    classes, --class-name, --prompt --> texts --text encoder--> one embedding a class --> the head's rows
    images --image encoder--> embedding --head--> logits: the checkpoint's own similarity of image and class

The result is an ordinary Model of the family `clip` over the image columns. So evaluate, and whatever else takes a
Model, treats it as any other; it has no run, and its step is 0.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from carryover.data.manifest import DatasetCard
from carryover.data.schema import DENSE, Schema
from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.models.assembly import Assembly, Preprocessing, build_network, build_preprocessing, choose
from carryover.models.clip import IMAGES, text_preprocessor, whole_model
from carryover.models.columns import as_text
from carryover.models.export import Found, make_card, model_files, weights_of, write_model
from carryover.tasks.task import make_task, task_files
from carryover.train import recipe as recipes
from carryover.train.outcome import versions

if TYPE_CHECKING:
    from carryover.checkpoint.pack import RawTensor

PROMPT = "a photo of a {}."
BRANCH = "clip"


def zero_shot_model(
    checkpoint: str, dataset: DatasetCard, *, store: str, class_names: Sequence[str] = (), prompts: Sequence[str] = ()
) -> Found:
    """Make a Model that tells a dataset's classes apart by their names, and write it to the store.

    Args:
        checkpoint: hub name or folder of a CLIP or SigLIP model.
        dataset: whose label is told; its rows are not looked at.
        class_names: "VALUE=WORDS" each: what a class is called, where its value says too little. Others are called by
            their value, with spaces for underscores.
        prompts: texts with {} where the name goes; several are averaged.

    Raises:
        WrongInput: for a label that is a number, a dataset without images, a class that is not there, or a checkpoint
            that cannot be opened.
    """
    schema = dataset.schema
    texts = class_texts(schema, class_names, prompts)
    recipe = recipes.make({"model.names": [BRANCH], f"model.{BRANCH}.checkpoint_name": checkpoint})
    shown = _images_only(schema)
    assembly = choose(recipe.model, shown)
    # torch is loaded from here on.
    preprocessing = build_preprocessing(assembly, shown, recipe.data)
    weights = _weights(assembly, preprocessing, list(texts.values()))
    files = model_files(
        replace(assembly, unused=tuple(c.name for c in schema.features() if c.type not in IMAGES)),
        preprocessing,
        task_files(make_task(schema, recipe.data)),
    )
    card = make_card(
        files,
        weights,
        schema=schema,
        recipe=recipe.flat(),
        run_key="",
        step=0,
        checkpoint_uri="",
        dataset={},
        store=store,
        versions=versions(),
    )
    folder = storage.open_store(card.at)
    write_model(folder, card, files, weights)
    columns = ", ".join(assembly.branches[0].columns)
    say(f"zero-shot Model {card.at} tells {len(texts)} classes by their names, from {columns}")
    return Found(card, folder)


def class_texts(schema: Schema, class_names: Sequence[str], prompts: Sequence[str]) -> dict[str, list[str]]:
    """Return class -> the texts that describe it, in the order of the classes.

    Raises:
        WrongInput: for a label without classes, a name of a class that is not there, or a prompt without a place.
    """
    if schema.classes is None:
        raise WrongInput(
            f"--zero-shot: label '{schema.label}' is a number, and only classes have names",
            trouble="does-not-fit-model",
        )
    if schema.problem_type in DENSE:
        raise WrongInput(
            f"--zero-shot: tells whole images apart, and the problem is {schema.problem_type}",
            trouble="does-not-fit-model",
        )
    names = {as_text(value): as_text(value).replace("_", " ") for value in schema.classes}
    for given in class_names:
        value = max((value for value in names if given.startswith(f"{value}=")), key=len, default="")
        words = given.removeprefix(f"{value}=").strip()
        if not value or not words:
            known = ", ".join(list(names)[:20])
            raise WrongInput(f"--class-name {given}: must be CLASS=WORDS; the classes are {known}")
        names[value] = words
    for prompt in prompts:
        if prompt.count("{}") != 1:
            raise WrongInput(f"--prompt '{prompt}': must have {{}} once, where the name of the class goes")
    templates = [prompts] if isinstance(prompts, str) else prompts
    return {value: [prompt.replace("{}", name) for prompt in templates or [PROMPT]] for value, name in names.items()}


def _images_only(schema: Schema) -> Schema:
    kept = tuple(column for column in schema.columns if column.type in IMAGES or column.name == schema.label)
    if len(kept) == 1:
        raise WrongInput(
            "--zero-shot: the dataset has no column of images (prepare-data --column-type COL=image_path)",
            trouble="does-not-fit-model",
        )
    return replace(schema, columns=kept)


def _weights(
    assembly: Assembly, preprocessing: Preprocessing, texts: Sequence[Sequence[str]]
) -> "dict[str, RawTensor]":
    """Return the weights of the network whose head is made of texts."""
    import torch

    from carryover.checkpoint.snapshot import snapshot
    from carryover.models.clip_layers import class_weights

    branch = assembly.branches[0]
    read: Any = preprocessing.branches[branch.name]
    written = text_preprocessor(branch.config, read.config, ("",), normalize=False)
    classes = []
    for lines in texts:
        arrays = written(pa.table({"": list(lines)}), training=False, keys=np.zeros(len(lines), np.uint64))
        classes.append({name: torch.from_numpy(array) for name, array in arrays.items()})
    whole = whole_model(branch.config, read.config, pretrained=True)
    weight, bias = class_weights(whole, read.config, written.layout, classes)
    network = build_network(assembly, preprocessing, len(texts))
    state = {**network.state_dict(), f"{branch.name}.head.weight": weight, f"{branch.name}.head.bias": bias}
    return weights_of(snapshot({f"model/{name}": value for name, value in state.items()}))
