"""Owns Backbone: the branches of a trained network as folders that their own libraries open, as a notebook has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carryover.api import cards
from carryover.api.places import store_of
from carryover.ground.errors import WrongInput


@dataclass(frozen=True, repr=False)
class Backbone:
    """What a network has learned, without its head, in a store.

    Attributes:
        uri: its folder.
        digest: of its files.
        store: the store that it lies in, "" where it lies elsewhere.
        branches: name -> family, such as hf_text; each has a folder of its name.
        check: branch -> how the dump, opened again, compares with what was trained: equal, max_difference, merged.
        bytes: of all files.
        model_digest: of the Model that it was dumped from, "" for a commit of a run.
        run_key, step: the run that trained it, and how far.
        report: path or URI of its page, "" where there is none.
        result: all that the step said, {} where it was opened.
    """

    uri: str
    digest: str
    store: str
    branches: Mapping[str, str] = field(compare=False)
    check: Mapping[str, Mapping[str, Any]] = field(compare=False)
    bytes: int
    model_digest: str
    run_key: str
    step: int
    report: str = field(default="", compare=False)
    result: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def word(self) -> str:
        """Return what names it to a step."""
        return self.uri

    def folder(self, branch: str = "") -> str:
        """Return the folder of one branch, for `AutoModel.from_pretrained` or `timm.create_model`.

        Args:
            branch: may be left out where there is one only.

        Raises:
            WrongInput: for a branch that is not there.
        """
        name = branch or (next(iter(self.branches)) if len(self.branches) == 1 else "")
        if name not in self.branches:
            known = ", ".join(self.branches)
            raise WrongInput(f"branch: '{name}' is not possible; it must be one of {known}", trouble="wrong-value")
        return f"{self.uri}/{name}"

    def __repr__(self) -> str:
        return f"Backbone({', '.join(self.branches)}; {self.digest[:12]} at {cards.near(self.uri)})"

    def _repr_html_(self) -> str:
        rows = [[name, family, _said(self.check.get(name, {}))] for name, family in self.branches.items()]
        facts = [
            ("trained by", f"run {self.run_key}, step {self.step:,}" if self.run_key else ""),
            ("place", cards.near(self.uri)),
        ]
        inside = cards.table(["branch", "family", "opened again"], rows)
        tiles = [("MB", self.bytes / 1e6)]
        return cards.Card("Backbone", "", self.digest, tiles, facts, inside, self.report).html()


def backbone_of(uri: str, result: Mapping[str, Any] | None = None) -> Backbone:
    """Open a Backbone by the URI of its folder.

    Raises:
        WrongInput: when there is none.
    """
    from dataclasses import asdict

    from carryover.carry.backbone import find_backbone

    told = result or {}
    found = find_backbone(uri)
    card, where = found.card, found.folder.uri
    return Backbone(
        uri=where,
        digest=card.digest,
        store=store_of(where, "backbones"),
        branches={branch.name: branch.family for branch in card.branches},
        check={name: asdict(one) for name, one in card.check.items()},
        bytes=sum(file.size for file in card.files.values()),
        model_digest=card.model["digest"] if card.model else "",
        run_key=card.run_key,
        step=card.step,
        report=str(told.get("report", "")),
        result=told,
    )


def _said(check: Mapping[str, Any]) -> str:
    if not check:
        return ""
    words = "the same bits" if check["equal"] else f"differs by at most {check['max_difference']:.2g}"
    return words + (f", {check['merged']} merged" if check["merged"] else "")
