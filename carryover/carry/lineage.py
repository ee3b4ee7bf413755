"""Owns where a Model or Backbone comes from: its ancestors, told by its own card, and which of them are still there.

    first Model --extend--> Model --dump--> Backbone --transfer--> Model of another task
    card.parent.lineage = [node, node, node]      oldest first, without the card's own; so it outlives their folders

A node is small, plain JSON; see `Node`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from carryover.ground import storage
from carryover.ground.digests import same
from carryover.ground.errors import CarryoverError, WrongInput
from carryover.models import backbone_card, card
from carryover.models.backbone_card import BackboneCard
from carryover.models.card import ModelCard

Card = ModelCard | BackboneCard
MODEL, BACKBONE, CHECKPOINT = "model", "backbone", "checkpoint"
DUMP = "dump"
# A card stays readable, however many days a model has been extended; the oldest go first.
MOST_KEPT = 100
_FOLDERS = {MODEL: card.MODELS, BACKBONE: backbone_card.BACKBONES}
_CARDS = {MODEL: card.CARD, BACKBONE: backbone_card.CARD}
_PARSERS: Mapping[str, Callable[..., Card]] = {MODEL: card.parse_card, BACKBONE: backbone_card.parse_card}


@dataclass(frozen=True)
class Node:
    """One ancestor.

    Attributes:
        kind: model, backbone, or checkpoint for weights that carryover did not make.
        by: how it was made from the one before it: extend, transfer or dump; "" for the first.
        made: when, as far as it is known.
        dataset: digest and uri of what it was trained on.
        rows: that it was trained on.
        recipe: keys that can change the result, where they were not the default.
        version: of carryover.
        reason: why its training ended.
    """

    kind: str
    digest: str
    uri: str
    by: str = ""
    made: str = ""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    run_key: str = ""
    step: int = 0
    version: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; what is not known is left out."""
        return {name: value for name, value in asdict(self).items() if value not in ("", {}, 0, None)}


@dataclass(frozen=True)
class Known:
    """One ancestor as it is now.

    Attributes:
        gone: why it cannot be opened any more, "" where it is there.
        changed: recipe key -> (value of the ancestor before it, own value); None: the default.
    """

    node: Node
    gone: str = ""
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        changed = {name: list(pair) for name, pair in self.changed.items()}
        return {**self.node.to_json(), "there": not self.gone, "gone": self.gone, "changed": changed}


def chain(one: Card) -> list[dict[str, Any]]:
    """Return the nodes of a card's ancestors and its own, oldest first; what is made from it keeps them."""
    nodes = [*_before(one), _node(one)]
    return [node.to_json() for node in nodes[-MOST_KEPT:]]


def ancestry(one: Card, *, stores: Sequence[str] = ()) -> list[Known]:
    """Return a card's node and those of its ancestors, newest first, each looked for where it was.

    An ancestor that is nowhere is told as the cards of its descendants remember it.

    Args:
        stores: where ancestors are looked for too, as they may have been moved with one.
    """
    found, rest, seen = [Known(_node(one))], _before(one), {one.digest}
    stores = [place for place in (_store_of(one), *stores) if place]
    while rest:
        node = rest.pop()
        if node.digest in seen:
            break  # A card that names itself among its ancestors is not to be believed, and must not keep us here.
        seen.add(node.digest)
        there, why = _look(node, stores)
        if there is None:
            found.append(Known(node, why))
            continue
        found.append(Known(_node(there)))
        # A card knows its own past best; one written before there was a lineage knows none.
        rest = max(_before(there), rest, key=len)
    pairs = zip(found, [*(known.node for known in found[1:]), None], strict=True)
    return [replace(known, changed=_changed(known.node, older)) for known, older in pairs]


def read_card(source: str) -> Card:
    """Return the card at the URI of a Model's or Backbone's folder, or of the card itself; its files may be gone.

    Raises:
        WrongInput: when there is none.
    """
    if source.endswith(".json"):
        folder, name = storage.split(source)
        names = {kind: name for kind, known in _CARDS.items() if known == name} or dict.fromkeys(_CARDS, name)
    else:
        folder, names = source, _CARDS
    here = storage.open_store(folder)
    for kind, name in names.items():
        try:
            data = here.read(name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return _PARSERS[kind](data, where=here.at(name))
    raise WrongInput(
        f"{storage.normal(source)}: no Model and no Backbone there; give what 'carryover train-ddp' or "
        "'carryover dump-backbone' printed as uri"
    )


def _before(one: Card) -> list[Node]:
    """Return the nodes of a card's ancestors, oldest first."""
    if isinstance(one, BackboneCard) and one.model:
        # A Backbone's parent is that of the Model that it was dumped from, which comes between them.
        told = one.model.get("lineage") or [*_recorded(one), _dumped(one, one.model).to_json()]
        return [_from_json(node) for node in told]
    return [_from_json(node) for node in _recorded(one)]


def _recorded(one: Card) -> list[dict[str, Any]]:
    """Return the nodes that a card's parent names, oldest first; of one from before there was a lineage the parent."""
    parent = one.parent or {}
    if parent and not parent.get("lineage"):
        kind = MODEL if parent["kind"] == "extend" else CHECKPOINT
        return [Node(kind, parent["digest"], parent["uri"], dataset=parent.get("dataset") or {}).to_json()]
    return list(parent.get("lineage") or ())


def _dumped(one: BackboneCard, model: Mapping[str, Any]) -> Node:
    """Return all that a Backbone tells of the Model that it was dumped from."""
    by = (one.parent or {}).get("kind", "")
    return Node(MODEL, model["digest"], model["uri"], by=by, dataset=one.dataset, run_key=one.run_key, step=one.step)


def _node(one: Card) -> Node:
    version = one.versions.get("carryover", "")
    told = {"dataset": one.dataset, "run_key": one.run_key, "step": one.step, "version": version}
    if isinstance(one, BackboneCard):
        by = DUMP if one.model else (one.parent or {}).get("kind", "")
        return Node(BACKBONE, one.digest, one.at, by=by, **told)
    by = (one.parent or {}).get("kind", "")
    more = {
        "rows": one.rows.get("train", 0),
        "made": one.made,
        "recipe": one.asked,
        "metrics": one.metrics,
        "reason": one.reason,
    }
    return Node(MODEL, one.digest, one.at, by=by, **told, **more)


def _from_json(value: Mapping[str, Any]) -> Node:
    """Return the node that a card keeps; words of a later version are passed over."""
    known = {one.name for one in fields(Node)}
    return Node(**{"kind": CHECKPOINT, "digest": "", "uri": "", **{n: v for n, v in value.items() if n in known}})


def _look(node: Node, stores: list[str]) -> tuple[Card | None, str]:
    """Return the card of an ancestor, or why there is none."""
    if node.kind not in _CARDS:
        return None, "was not made by carryover"
    places = [node.uri, *(storage.join(storage.join(store, _FOLDERS[node.kind]), node.digest) for store in stores)]
    why = "its folder is gone"
    for place in dict.fromkeys(place for place in places if place):
        try:
            found = read_card(storage.join(place, _CARDS[node.kind]))
        except WrongInput:
            continue
        except (OSError, CarryoverError) as error:
            why = f"it cannot be looked at: {' '.join(str(error).split())[:200]}"
            continue
        if found.digest == node.digest:
            return found, ""
        why = "something else lies there now"
    return None, why


def _store_of(one: Card) -> str:
    """Return the store that a card's folder lies in: <store>/models/<digest>."""
    return storage.split(storage.split(one.at)[0])[0] if one.at else ""


def _changed(node: Node, older: Node | None) -> dict[str, tuple[Any, Any]]:
    if older is None or node.kind != MODEL or older.kind != MODEL:
        return {}
    names = sorted({*node.recipe, *older.recipe})
    pairs = {name: (older.recipe.get(name), node.recipe.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if not same(*pair)}
