"""Owns model.json: what a Model is, what its files must be, and its digest.

    <folder>/model.ckpt/model.safetensors     weights, by the names of the network's state_dict
             preprocessors/assembly.json      which families, with their configs
             preprocessors/task.json          what the outputs mean
             preprocessors/<branch>/…         fitted preprocessing, an encoder's config
             tokenizer/<branch>/…             as transformers writes them
             model.json                       written last: the Model exists when it does

The digest is over the names and contents of the files alone: the same Model has the same digest wherever it came from.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carryover.data.schema import Schema
from carryover.ground.cards import parsed
from carryover.ground.digests import canonical, digest, short
from carryover.ground.errors import WrongInput
from carryover.ground.uris import is_member

CARD = "model.json"
WEIGHTS = "model.ckpt/model.safetensors"
ASSEMBLY = "preprocessors/assembly.json"
FORMAT = 1
MODELS = "models"
_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ModelFile:
    """One file: its size in bytes and the blake3 of its bytes, 64 hex characters."""

    size: int
    blake3: str


@dataclass(frozen=True)
class ModelCard:
    """All of model.json.

    Attributes:
        digest: names the Model and its folder, 32 hex characters.
        schema: of the dataset it was trained on.
        recipe: dotted key -> value, every key.
        assembly: as `Assembly.to_json`.
        files: name relative to the folder -> what it must be.
        dataset: digest and uri of the training data.
        parent: what it was made from, None for a first one; its `lineage` names that and all before it, oldest first.
        metrics: name -> value, None where there is none.
        at: canonical URI of the Model's folder.
        made: time, for people only.
        reason: why its training ended.
        rows: split -> rows that it was trained on, and chosen by.
        asked: keys of the recipe that can change the result, where they are not the default of their time.
    """

    digest: str
    schema: Schema
    recipe: Mapping[str, Any]
    assembly: Mapping[str, Any]
    files: Mapping[str, ModelFile]
    run_key: str
    step: int
    checkpoint_uri: str
    dataset: Mapping[str, Any]
    at: str
    parent: Mapping[str, Any] | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    made: str = ""
    reason: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON without NaN."""
        files = {name: vars(file) for name, file in sorted(self.files.items())}
        finite = {name: _finite(value) for name, value in self.metrics.items()}
        return {
            "format": FORMAT,
            "kind": "model",
            "digest": self.digest,
            "label": self.schema.label,
            "problem_type": self.schema.problem_type,
            "classes": None if self.schema.classes is None else list(self.schema.classes),
            "schema": self.schema.to_json(),
            "recipe": dict(self.recipe),
            "assembly": dict(self.assembly),
            "files": files,
            "run_key": self.run_key,
            "step": self.step,
            "checkpoint_uri": self.checkpoint_uri,
            "dataset": dict(self.dataset),
            "parent": self.parent,
            "metrics": finite,
            "at": self.at,
            "versions": dict(self.versions),
            "made": self.made,
            "reason": self.reason,
            "rows": dict(self.rows),
            "asked": dict(self.asked),
        }

    def to_bytes(self) -> bytes:
        """Return the bytes of model.json."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def digest_of(files: Mapping[str, ModelFile]) -> str:
    """Return the digest that a Model with these files has."""
    contents = {name: file.blake3 for name, file in files.items()}
    return short(digest(canonical({"format": FORMAT, "kind": "model", "files": contents})))


def is_model_digest(text: object) -> bool:
    """Tell whether this can be a Model's digest, and so the name of its folder."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def parse_card(data: bytes, *, where: str) -> ModelCard:
    """Return the card in the bytes of model.json, its digest checked against the files it names.

    Raises:
        WrongInput: when it is no model card, of another format, or says a digest that its files do not have.
    """
    card = parsed(data, _made, kind="model", format=FORMAT, where=where)
    files = card.files
    outside = [name for name in files if not is_member(name)]
    if outside:
        raise WrongInput(
            f"{where}: names the file {outside[0]!r}, which is not inside its own folder; it is not read",
            trouble="bad-uri",
        )
    if digest_of(files) != card.digest:
        raise WrongInput(f"{where}: damaged, its digest is not that of the files it names", trouble="damaged")
    return card


def _made(value: Mapping[str, Any]) -> ModelCard:
    files = {name: ModelFile(**file) for name, file in value["files"].items()}
    same = {name: value[name] for name in _SAME} | {name: value[name] for name in _LATER if name in value}
    return ModelCard(schema=Schema.from_json(value["schema"]), files=files, **same)


# What the file and the dataclass spell alike.
_SAME = "digest recipe assembly run_key step checkpoint_uri dataset parent metrics at versions".split()
# The same, in cards written since.
_LATER = "made reason rows asked".split()


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
