"""Owns backbone.json: what a Backbone is, what its files must be, and its digest. Needs no torch.

    <store>/backbones/<digest>/
        hf_text/          config.json, model.safetensors, tokenizer.json …     one folder a branch, by the branch's name
        timm_image/       config.json, model.safetensors
        ft_transformer/   config.json, model.safetensors, numerical.json, categorical.json
        backbone.json     written last: the Backbone exists when it does

The digest is over the names and contents of the files alone: what was learned has one name wherever it was dumped from.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from carryover.ground.cards import parsed
from carryover.ground.digests import canonical, digest, short
from carryover.ground.errors import WrongInput
from carryover.ground.uris import is_member
from carryover.models.card import ModelFile

CARD = "backbone.json"
FORMAT = 1
BACKBONES = "backbones"
# What a branch has learned beside its pretrained part and its head: a first token's vector, an image for none.
LEARNED = "learned.safetensors"


@dataclass(frozen=True)
class DumpedBranch:
    """One branch: its folder is `name`; `config` is flat, without names of places; `columns` are those it read."""

    name: str
    family: str
    config: Mapping[str, Any]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class RoundTrip:
    """How a dumped branch, opened again, compares with the trained one on rows made up for it.

    Attributes:
        equal: whether the features are the same, bit for bit.
        max_difference: the largest difference of two numbers.
        largest: the largest number, by its absolute value.
        rtol: `max_difference` is at most this share of `largest`; 0 where bits had to be equal.
        merged: the adapters ("lora", "ia3") that were put into the weights, "" for none.
    """

    equal: bool
    max_difference: float
    largest: float
    rtol: float
    merged: str


@dataclass(frozen=True)
class BackboneCard:
    """All of backbone.json.

    Attributes:
        digest: names the Backbone and its folder, 32 hex characters.
        files: name relative to the folder -> what it must be.
        branches: at least one.
        model: {digest, uri, lineage} of the Model that it was dumped from, None for a commit.
        checkpoint: {uri, number, step} of the commit that it was dumped from, None for a Model.
        run_key, step: the run that trained it, and how far.
        parent: what that run started from, as the Model's card has it.
        check: branch -> how the dump compares with what was trained.
        at: canonical URI of the folder.
    """

    digest: str
    files: Mapping[str, ModelFile]
    branches: tuple[DumpedBranch, ...]
    model: Mapping[str, Any] | None
    checkpoint: Mapping[str, Any] | None
    run_key: str
    step: int
    dataset: Mapping[str, Any]
    check: Mapping[str, RoundTrip]
    at: str
    parent: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def branch(self, name: str) -> DumpedBranch:
        """Return one branch by its name; raises WrongInput for one that is not there."""
        for branch in self.branches:
            if branch.name == name:
                return branch
        raise WrongInput(f"Backbone {self.digest}: has no branch '{name}'; it has {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the branches' names."""
        return tuple(branch.name for branch in self.branches)

    def files_of(self, branch: str) -> dict[str, ModelFile]:
        """Return name relative to a branch's folder -> what it must be."""
        start = f"{self.branch(branch).name}/"
        return {name.removeprefix(start): file for name, file in self.files.items() if name.startswith(start)}

    def to_bytes(self) -> bytes:
        """Return the bytes of backbone.json."""
        files = {name: vars(file) for name, file in sorted(self.files.items())}
        check = {name: asdict(one) for name, one in self.check.items()}
        branches = [asdict(branch) for branch in self.branches]
        plain = {"format": FORMAT, "kind": "backbone", "digest": self.digest, "branches": branches}
        same = {name: getattr(self, name) for name in _SAME}
        text = json.dumps({**plain, **same, "files": files, "check": check}, indent=1, allow_nan=False)
        return text.encode() + b"\n"


def digest_of(files: Mapping[str, ModelFile]) -> str:
    """Return the digest that a Backbone with these files has."""
    contents = {name: file.blake3 for name, file in files.items()}
    return short(digest(canonical({"format": FORMAT, "kind": "backbone", "files": contents})))


def parse_card(data: bytes, *, where: str) -> BackboneCard:
    """Return the card in the bytes of backbone.json, its digest checked against the files it names.

    Raises:
        WrongInput: when it is no backbone card, of another format, or says a digest that its files do not have.
    """
    card = parsed(data, _made, kind="backbone", format=FORMAT, where=where)
    _check_names(card, where)
    if digest_of(card.files) != card.digest:
        raise WrongInput(f"{where}: damaged, its digest is not that of the files it names", trouble="damaged")
    return card


def _made(value: Mapping[str, Any]) -> BackboneCard:
    return BackboneCard(
        digest=value["digest"],
        files={name: ModelFile(**file) for name, file in value["files"].items()},
        branches=tuple(DumpedBranch(**{**one, "columns": tuple(one["columns"])}) for one in value["branches"]),
        check={name: RoundTrip(**one) for name, one in value["check"].items()},
        **{name: value[name] for name in _SAME},
    )


def _check_names(card: BackboneCard, where: str) -> None:
    outside = [name for name in card.files if not is_member(name)]
    if outside:
        raise WrongInput(
            f"{where}: names the file {outside[0]!r}, which is not inside its own folder; it is not read",
            trouble="bad-uri",
        )
    for name in card.names:
        if not is_member(name) or "/" in name:
            raise WrongInput(
                f"{where}: names the branch {name!r}, which is no folder of its own; it is not read", trouble="bad-uri"
            )
        if not card.files_of(name):
            raise WrongInput(f"{where}: names the branch '{name}' and no file of it")


# What the file and the dataclass spell alike.
_SAME = "model checkpoint run_key step dataset parent versions at".split()
