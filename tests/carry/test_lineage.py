"""Lineage: chains that cards carry, ancestors that are moved or gone, odd cards, and what is drawn of it."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carryover.carry.lineage import MOST_KEPT, ancestry, chain, read_card
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models import backbone_card
from carryover.models.backbone_card import BackboneCard, DumpedBranch
from carryover.models.card import CARD, ModelCard, ModelFile, digest_of, parse_card
from carryover.report.lineage import lineage_page, lineage_svg, lineage_text
from carryover.steps.dump_backbone import dump_backbone
from carryover.steps.lineage import lineage
from carryover.steps.prepare_data import prepare_data
from carryover.steps.train_ddp import train_ddp
from carryover.steps.transfer_train import transfer_train
from carryover.train.parent import EXTEND, TRANSFER, Parent, parent_from_json
from tests.support.last_words import only_error_of

EVIL = '"><script>alert(1)</script>'
SCHEMA = Schema("y", "binary", ("no", "yes"), (Column("y", "categorical", "string"),))


def model(store: Path, name: str, parent: ModelCard | BackboneCard | None = None, **more: Any) -> ModelCard:
    """Writes a card as a run writes it: what it started from is named with all that this one remembers."""
    files = {"x": ModelFile(1, name)}
    digest = digest_of(files)
    began = None
    if parent is not None:
        kind = EXTEND if isinstance(parent, ModelCard) else TRANSFER
        began = Parent(kind, parent.at, parent.digest, dataset=parent.dataset, lineage=tuple(chain(parent))).to_json()
    told = {
        "recipe": {},
        "assembly": {"branches": [], "fusion": None},
        "run_key": f"run-{name}",
        "step": 7,
        "checkpoint_uri": "",
        "dataset": {"digest": name * 64, "uri": f"s3://data/{name}"},
        "versions": {"carryover": "0.1.0", "python": "3.11"},
        "made": "2026-11-21T10:00:00Z",
        "reason": "max_epochs",
        "rows": {"train": 1200},
        "metrics": {"val_roc_auc": 0.9123},
    }
    at = str(store / "models" / digest)
    card = ModelCard(digest=digest, schema=SCHEMA, files=files, at=at, parent=began, **{**told, **more})
    folder = Path(at)
    folder.mkdir(parents=True)
    (folder / CARD).write_bytes(card.to_bytes())
    return card


def backbone(store: Path, of: ModelCard) -> BackboneCard:
    files = {"text/x": ModelFile(1, of.digest)}
    digest = backbone_card.digest_of(files)
    named = {"digest": of.digest, "uri": of.at, "lineage": chain(of)}
    card = BackboneCard(
        digest, files, (DumpedBranch("text", "hf_text", {}, ()),), named, None, of.run_key, of.step, of.dataset, {},
        str(store / "backbones" / digest), parent=of.parent, versions=of.versions,
    )  # fmt: skip
    Path(card.at).mkdir(parents=True)
    (Path(card.at) / backbone_card.CARD).write_bytes(card.to_bytes())
    return card


@pytest.fixture
def line(tmp_path: Path) -> list[ModelCard | BackboneCard]:
    """First Model, extended, dumped, and another task from that; oldest first."""
    store = tmp_path / "store"
    first = model(store, "a", asked={"optimization.learning_rate": 0.001, "seed": 3})
    second = model(store, "b", first, asked={"optimization.learning_rate": 0.0001, "data.mode": "delta"})
    dumped = backbone(store, second)
    return [first, second, dumped, model(store, "c", dumped)]


def test_a_card_remembers_its_whole_chain(line):
    last = line[-1]
    assert isinstance(last, ModelCard)
    nodes = chain(last)
    assert [node["digest"] for node in nodes] == [card.digest for card in line]
    assert [node["kind"] for node in nodes] == ["model", "model", "backbone", "model"]
    assert [node.get("by") for node in nodes] == [None, "extend", "dump", "transfer"]
    assert nodes[0]["recipe"] == {"optimization.learning_rate": 0.001, "seed": 3}
    assert nodes[0]["rows"] == 1200
    assert all(len(json.dumps(node)) < 1000 for node in nodes)
    # As it is read again from bytes, and as the run's own parent.
    again = parse_card(last.to_bytes(), where="here")
    assert chain(again) == nodes
    began = parent_from_json(again.parent)
    assert began is not None
    assert list(began.lineage) == nodes[:-1]
    assert parent_from_json(began.to_json()) == began


def test_every_ancestor_is_there_and_says_what_changed(line):
    found = ancestry(line[-1])
    assert [known.node.digest for known in found] == [card.digest for card in reversed(line)]
    assert not any(known.gone for known in found)
    assert found[2].changed == {
        "data.mode": (None, "delta"),
        "optimization.learning_rate": (0.001, 0.0001),
        "seed": (3, None),
    }
    assert found[3].changed == {}


def test_ancestors_that_are_gone_are_told_from_memory(line):
    whole = ancestry(line[-1])
    for card in line[:-1]:
        shutil.rmtree(card.at)
    found = ancestry(line[-1])
    assert [known.node for known in found] == [known.node for known in whole]
    assert [known.gone for known in found] == ["", *["its folder is gone"] * 3]
    assert found[2].changed == whole[2].changed
    assert "gone: its folder is gone" in lineage_text(found)


def test_a_store_that_was_moved_as_a_whole(line, tmp_path):
    shutil.move(tmp_path / "store", tmp_path / "moved")
    last = tmp_path / "moved" / "models" / line[-1].digest
    for source in (str(last), str(last / CARD)):
        found = lineage(source)
        assert len(found) == 4
        assert not any(known.gone for known in found)
    shutil.move(last, tmp_path / "artifact")
    assert [known.gone for known in lineage(str(tmp_path / "artifact"))][1:] == ["its folder is gone"] * 3
    found = lineage(str(tmp_path / "artifact"), store=str(tmp_path / "moved"))
    assert not any(known.gone for known in found)


def test_another_thing_in_the_old_place_is_not_taken_for_it(line):
    first, second = line[0], line[1]
    shutil.rmtree(first.at)
    shutil.copytree(second.at, first.at)
    found = ancestry(second)
    assert found[1].gone == "something else lies there now"
    Path(first.at, CARD).write_bytes(b"{")
    assert ancestry(second)[1].gone


def test_cards_from_before_there_was_a_lineage(tmp_path):
    store = tmp_path / "store"
    first, second = model(store, "a"), None
    second = model(store, "b", first)
    plain = json.loads(second.to_bytes())
    for name in ("made", "reason", "rows", "asked"):
        del plain[name]
    plain["parent"] = {"kind": "extend", "digest": first.digest, "uri": first.at}
    old = parse_card(json.dumps(plain).encode(), where="here")
    third = model(store, "c", old)
    assert [known.node.digest for known in ancestry(third)] == [third.digest, second.digest, first.digest]
    shutil.rmtree(first.at)
    assert [known.gone for known in ancestry(old)] == ["", "its folder is gone"]


def test_weights_of_others_are_the_end_of_it(tmp_path):
    card = model(tmp_path, "a")
    began = Parent(TRANSFER, "sentence-transformers/all-MiniLM-L6-v2", "0" * 32).to_json()
    found = ancestry(replace(card, parent=began))
    assert found[1].node.kind == "checkpoint"
    assert found[1].gone == "was not made by carryover"


def test_a_card_that_is_its_own_ancestor_ends(tmp_path):
    card = model(tmp_path, "a")
    began = Parent(EXTEND, card.at, card.digest, lineage=tuple(chain(card)) * 3).to_json()
    assert len(ancestry(replace(card, parent=began))) == 1
    odd = replace(card, parent={**began, "lineage": [{"later": "word"}]})
    assert ancestry(odd)[1].gone


def test_a_long_line_keeps_its_newest(tmp_path):
    card = model(tmp_path, "a0")
    for number in range(1, MOST_KEPT + 5):
        card = model(tmp_path, f"a{number}", card)
    assert len(chain(card)) == MOST_KEPT
    assert len(ancestry(card)) == MOST_KEPT + 5, "those that are there tell the rest"
    shutil.rmtree(tmp_path / "models")
    found = ancestry(card)
    assert len(found) == MOST_KEPT + 1
    assert "something older, which is not recorded" in lineage_text(found)
    assert "something older, which is not recorded" in lineage_svg(found)


def test_what_is_drawn_is_whole_escaped_and_fetches_nothing(tmp_path):
    store = tmp_path / "store"
    first = model(store, "a", reason=EVIL, dataset={"digest": "d", "uri": f"s3://data/{EVIL}"}, asked={"k": EVIL})
    second = model(store, "b", first, metrics={EVIL: 0.5, "none": None})
    shutil.rmtree(first.at)
    html, svg = tmp_path / "out" / "page.html", tmp_path / "out" / "tree.svg"
    found = lineage(second.at, html=str(html), svg=str(svg))
    root = ET.fromstring(svg.read_text())
    texts = " ".join("".join(node.itertext()) for node in root.iter())
    assert EVIL in texts
    assert "extended to" in texts
    for text in (html.read_text(), svg.read_text()):
        assert "<script" not in text
        assert "prefers-color-scheme: dark" in text
        assert re.findall(r"(?:src|href|url)\s*[=(]", text) == []
    assert lineage_page(found, foot="x").count("<svg") == 1
    plain = lineage_text(found)
    assert plain.splitlines()[0].startswith(f"● model {second.digest[:12]}")
    assert "changed  k:" in plain


def test_wrong_words(tmp_path):
    for source, words in [
        ("", "lineage: empty"),
        (str(tmp_path / "nowhere"), "no Model and no Backbone there"),
        (str(tmp_path / "nowhere" / "model.json"), "no Model and no Backbone there"),
        ("champion:best", "has no champion"),
    ]:
        with pytest.raises(WrongInput, match=words):
            lineage(source, store=str(tmp_path))
    (tmp_path / "model.json").write_text('{"kind": "dataset"}')
    with pytest.raises(WrongInput, match="describes a dataset"):
        read_card(str(tmp_path))


def test_command_line(line, carryover_cli):
    uri = line[-1].at
    done = carryover_cli("lineage", uri, "--html", "page.html", "--svg", "tree.svg")
    assert done.rc == 0, done.stderr
    assert done.stdout.count("● ") == 4
    assert "took weights of" in done.stdout
    assert (carryover_cli.cwd / "page.html").is_file()
    assert (carryover_cli.cwd / "tree.svg").is_file()
    nodes = json.loads(carryover_cli("lineage", uri, "--json").stdout)
    assert [node["there"] for node in nodes] == [True] * 4
    assert nodes[2]["changed"]["seed"] == [3, None]
    wrong = carryover_cli("lineage", "nowhere")
    assert wrong.rc == 2
    assert only_error_of(wrong.stderr)


@pytest.mark.slow
def test_real_runs_hand_it_on(tmp_path):
    """A Model is trained, extended, dumped, and its weights start another task; then all folders before it go."""
    store = str(tmp_path / "store")

    def data(name: str, classes: tuple[str, ...], seed: int) -> str:
        numbers = np.random.default_rng(seed).normal(size=(120, 2)).round(4).tolist()
        lines = [f"{a},{b},{classes[int(a > 0) % len(classes)]}" for a, b in numbers]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
        return prepare_data(source=[str(tmp_path / f"{name}.csv")], label="y", store=store)["uri"]

    words = ["model.names=[numerical_mlp]", "optimization.max_steps=2"]
    first = train_ddp(dataset=data("first", ("no", "yes"), 0), store=store, overrides=words)
    second = train_ddp(
        dataset=data("second", ("no", "yes"), 1), store=store, init_from=first["uri"],
        overrides=["optimization.max_steps=3"],
    )  # fmt: skip
    dumped = dump_backbone(model=second["uri"], store=store)
    last = transfer_train(
        backbone=dumped["uri"], dataset=data("other", ("left", "right"), 2), store=store, overrides=words
    )
    found = lineage(last["uri"])
    made = [last["digest"], dumped["digest"], second["digest"], first["digest"]]
    assert [known.node.digest for known in found] == made
    assert [known.node.by for known in found] == ["transfer", "dump", "extend", ""]
    assert found[2].changed == {"optimization.max_steps": (2, 3)}
    assert found[3].node.rows > 50
    for digest in made[1:]:
        shutil.rmtree(next((tmp_path / "store").glob(f"*/{digest}")))
    assert [known.node for known in lineage(last["uri"])] == [known.node for known in found]
