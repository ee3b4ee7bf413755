"""Matching of names and shapes alone: prefixes found, nothing guessed, every tensor accounted for."""

import pytest
import torch
from torch import nn

from carryover.carry.match import KINDS, Match, Pair, Rows, find_pairs, match, plain, put

# An encoder of three layers and a head, as a network of ours has them.
BODY = {
    f"encoder.layer.{layer}.{part}": shape
    for layer in range(3)
    for part, shape in {"query.weight": (8, 8), "query.bias": (8,), "norm.weight": (8,)}.items()
} | {"embeddings.words.weight": (20, 8)}
TARGET = {f"hf_text.encoder.{name}": shape for name, shape in BODY.items()} | {
    "hf_text.head.weight": (2, 8),
    "hf_text.head.bias": (2,),
}
ROOTS = ["hf_text.encoder.", "hf_text.", ""]
HEAD = {"head.weight": (2, 8), "head.bias": (2,)}


def under(prefix: str, names: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {prefix + name: shape for name, shape in names.items()}


def found(source: dict[str, tuple[int, ...]], target: dict[str, tuple[int, ...]] | None = None) -> Match:
    target = target or TARGET
    return match(source, target, find_pairs(source, target, ROOTS))


def names(result: Match, kind: str) -> set[str]:
    return {fate.name for fate in getattr(result, kind)}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "bert.", "model.model.", "module._orig_mod.model.", "hf_text.encoder."]
)
def test_any_prefix_is_found(prefix: str) -> None:
    result = found(under(prefix, BODY))
    assert names(result, "loaded") == set(under("hf_text.encoder.", BODY))
    assert names(result, "new") == set(under("hf_text.", HEAD))
    assert not result.ignored


def test_automms_body_and_head_lie_under_two_prefixes() -> None:
    result = found(under("model.model.", BODY) | under("model.", HEAD))
    assert names(result, "loaded") == set(TARGET)


def test_wrappers_may_stand_anywhere_in_a_name() -> None:
    wrapped = {name.replace("layer.", "layer._orig_mod."): shape for name, shape in under("net.", BODY).items()}
    result = found(wrapped)
    assert names(result, "loaded") == set(under("hf_text.encoder.", BODY))
    assert {fate.source for fate in result.loaded} == set(wrapped)
    assert plain("a._orig_mod.q.base_layer.weight") == "a.q.weight"


def test_the_same_shapes_under_other_names_are_nothing() -> None:
    result = found({f"blocks.{number}": shape for number, shape in enumerate(BODY.values())})
    assert not result.loaded
    assert len(result.new) == len(TARGET)
    assert len(result.ignored) == len(BODY)


def test_two_norms_of_another_architecture_are_no_agreement() -> None:
    target = under("hf_text.encoder.", {**BODY, "norm.weight": (8,), "norm.bias": (8,)})
    assert not found({"backbone.norm.weight": (8,), "backbone.norm.bias": (8,), "stem.weight": (3, 3)}, target).loaded


def test_layers_never_move() -> None:
    fewer = {name: shape for name, shape in BODY.items() if "layer.0" not in name}
    result = found(under("bert.", fewer))
    assert all(
        fate.name.removeprefix("hf_text.encoder.") == fate.source.removeprefix("bert.") for fate in result.loaded
    )
    assert {name for name in names(result, "new") if "layer" in name} == {n for n in TARGET if "layer.0" in n}


def test_a_longer_source_is_ignored_where_it_is_longer() -> None:
    longer = BODY | {"encoder.layer.3.query.weight": (8, 8)}
    result = found(under("bert.", longer))
    assert names(result, "ignored") == {"bert.encoder.layer.3.query.weight"}


def test_a_head_for_other_classes_is_new_and_says_both_shapes() -> None:
    result = match(under("hf_text.", HEAD | {"head.weight": (5, 8)}), TARGET, [Pair("hf_text.", "hf_text.")])
    (why,) = [fate.why for fate in result.new if fate.name == "hf_text.head.weight"]
    assert why == "shape 5x8 there, 2x8 here"
    assert names(result, "ignored") == {"hf_text.head.weight"}


def test_two_towers_of_one_shape_go_in_order_to_two_branches() -> None:
    target = under("hf_text.encoder.", BODY) | under("hf_text_2.encoder.", BODY)
    source = under("model.model.0.model.", BODY) | under("model.model.1.model.", BODY)
    result = match(source, target, find_pairs(source, target, ["hf_text.encoder.", "hf_text_2.encoder."]))
    assert all(("hf_text_2" in fate.name) == (".1." in fate.source[:15]) for fate in result.loaded)
    assert len(result.loaded) == len(target)


def test_what_is_kept_new_stays_new_and_is_ignored_there() -> None:
    fresh = {"hf_text.head.": "other classes"}
    result = match(TARGET, TARGET, [Pair("", "")], fresh=fresh)
    assert names(result, "new") == names(result, "ignored") == set(under("hf_text.", HEAD))


TABLE = "hf_text.encoder.embeddings.words.weight"


def test_rows_of_a_table_go_by_their_names_even_where_shapes_are_equal() -> None:
    rows = Rows({"good": 0, "bad": 1, "odd": 2}, {"bad": 0, "new": 1, "good": 2})
    result = match({TABLE: (3, 8)}, {TABLE: (3, 8)}, [Pair("", "")], tables={TABLE: rows})
    (fate,) = result.resized
    assert set(fate.rows) == {(1, 0), (0, 2)}
    assert fate.count == 16
    assert fate.why == "2 of 3 rows by their names"


def test_a_table_that_is_only_padded_keeps_its_rows() -> None:
    rows = Rows({"good": 0, "bad": 1}, {"good": 0, "bad": 1})
    same = match({TABLE: (2, 8)}, {TABLE: (2, 8)}, [Pair("", "")], tables={TABLE: rows})
    assert names(same, "loaded") == {TABLE}
    padded = match({TABLE: (2, 8)}, {TABLE: (8, 8)}, [Pair("", "")], tables={TABLE: rows})
    assert padded.resized[0].rows == ((0, 0), (1, 1))


def test_without_vocabularies_another_size_is_new() -> None:
    assert names(match({TABLE: (2, 8)}, {TABLE: (8, 8)}, [Pair("", "")]), "new") == {TABLE}


def test_put_copies_what_fits_and_leaves_the_rest() -> None:
    network = nn.ModuleDict({"body": nn.Linear(3, 2), "table": nn.Embedding(3, 2)})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    source = {"x.weight": torch.arange(6.0, dtype=torch.float64).view(2, 3), "x.bias": torch.ones(9)}
    source |= {"table.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    there, here = ({name: tuple(value.shape) for name, value in tensors.items()} for tensors in (source, before))
    tables = {"table.weight": Rows({"a": 0, "b": 1}, {"b": 0, "c": 1, "a": 2})}
    result = match(there, here, [Pair("x.", "body."), Pair("", "")], tables=tables)
    put(result, source, network)
    after = network.state_dict()
    assert torch.equal(after["body.weight"], source["x.weight"].float())
    assert torch.equal(after["body.bias"], before["body.bias"])
    assert torch.equal(after["table.weight"][[2, 0]], source["table.weight"])
    assert torch.equal(after["table.weight"][1], before["table.weight"][1])
    assert sum(len(getattr(result, kind)) for kind in KINDS[:3]) == len(after)
