"""A Backbone opens in its own library alone, says what was trained, lies anywhere; a damaged one is refused."""

import io
import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import timm
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from carryover.carry.backbone import FoundBackbone, find_backbone
from carryover.checkpoint.layout import Damaged
from carryover.ground.errors import WrongInput
from carryover.ground.storage import copy_tree, open_store
from carryover.models import dump_tables
from carryover.models.backbone_card import CARD, parse_card
from carryover.models.export import LoadedModel, find_model, load_model
from carryover.models.family import can_dump, fuses
from carryover.models.registry import FAMILIES
from carryover.steps.dump_backbone import dump_backbone
from tests.support.tiny_timm import photo
from tests.train.attempts import Run
from tests.train.test_families import CASES, SMALL, prepared

QUICK = {**SMALL, "optimization.max_epochs": 1}


@dataclass(frozen=True)
class Dumped:
    """A run, its Model, and the Backbone that was dumped from it; the checkpoints that it started from are gone."""

    run: Run
    model: LoadedModel
    result: dict[str, Any]

    @property
    def backbone(self) -> FoundBackbone:
        return find_backbone(self.result["uri"])

    def features(self, branch: str, rows: dict[str, Any]) -> torch.Tensor:
        """What the trained branch says of rows."""
        preprocess = self.model.preprocessing.branches[branch]
        arrays = preprocess(pa.table(rows), training=False, keys=np.zeros(len(next(iter(rows.values()))), np.uint64))
        with torch.no_grad():
            return self.model.network.get_submodule(branch)(
                {name: torch.from_numpy(array) for name, array in arrays.items()}
            ).features


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Dumped]:
    """Trains and dumps a case of tests/train/test_families.py, once each."""
    made: dict[str, Dumped] = {}

    def make(name: str) -> Dumped:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            values = {**QUICK, **CASES[name].recipe(folder / "checkpoints")}
            run = Run(prepared(CASES[name], folder), str(folder / "store"), values, folder / "scratch")
            run.go()
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            result = dump_backbone(model="run:run", store=run.store, output=str(folder / "out"))
            model = load_model(find_model("run:run", store=run.store), num_outputs=2)
            made[name] = Dumped(run, model, result)
        return made[name]

    return make


TEXTS = ["a good film", "the worst movie, very very boring", "good"]
CHANCE = random.Random(3)
# Larger than what the models read, so that they are resized and cut.
PHOTOS = [photo(CHANCE, label, (40, 30)) for label in (0, 1, 1)]
SQUARES = [photo(CHANCE, label, (16, 16)) for label in (0, 1, 1)]


def images(data: list[bytes]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(one)).convert("RGB") for one in data]


def check_text(made: Dumped, folder: Path) -> None:
    """From words on, transformers alone gives the features, bit for bit."""
    encoder = hf.AutoModel.from_pretrained(folder).eval()
    tokens = hf.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = encoder(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
    assert torch.equal(states[:, 0], made.features("hf_text", {"review": TEXTS}))


def check_image(made: Dumped, folder: Path) -> None:
    """From files of images on, timm alone gives the features; it scales pixels in another order of sums."""
    encoder = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = resolve_model_data_config(encoder)
    assert (list(config["input_size"]), list(config["mean"]), config["crop_pct"]) == ([3, 16, 16], [0.4, 0.5, 0.6], 1.0)
    transform: Any = create_transform(**config, is_training=False)
    with torch.no_grad():
        said = encoder(torch.stack([transform(image) for image in images(PHOTOS)]))
    empty = pa.nulls(len(PHOTOS), pa.list_(pa.binary()))
    want = made.features("timm_image", {"front": pa.array([[one] for one in PHOTOS]), "back": empty})
    assert torch.allclose(said, want, atol=1e-5)
    assert want.std() > 0.01
    headed = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=3).state_dict()
    assert set(headed) - set(encoder.state_dict()) == {"head.weight", "head.bias"}
    assert all(torch.equal(headed[name], value) for name, value in encoder.state_dict().items())


def check_clip(made: Dumped, folder: Path) -> None:
    """From words and files of images on, both towers give the features: tokenizer, processor and all."""
    model: Any = hf.AutoModel.from_pretrained(folder).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    spelled = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    pixels = hf.AutoImageProcessor.from_pretrained(folder)(images(SQUARES), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        shown = model.visual_projection(model.vision_model(pixels).pooler_output)
        states = [model.text_model(torch.tensor([[ends[0], *ids, ends[1]]])).last_hidden_state for ids in spelled]
        said = model.text_projection(torch.stack([state[0, -1] for state in states]))
    empty = pa.nulls(len(TEXTS), pa.list_(pa.binary()))
    rows = {"said": TEXTS, "front": pa.array([[one] for one in SQUARES]), "back": empty}
    _, image, text = made.features("clip", rows).split(said.shape[-1], dim=1)
    for want, got in ((image, shown), (text, said)):
        got = torch.nn.functional.normalize(got, dim=-1) * got.shape[-1] ** 0.5
        assert torch.allclose(got, want, atol=1e-5)
        assert want.std(dim=0).max() > 0.01


def check_table(made: Dumped, folder: Path) -> None:
    """No other library has such a network: its own folder says all that is needed to build it."""
    name = folder.name
    network = dump_tables.opened(FAMILIES.load(name), folder)
    rows = FAMILIES.load(name).samples(made.model.preprocessing.branches[name])
    again = FAMILIES.load(name).restore(None, {path.name: path.read_bytes() for path in folder.glob("*.json")})
    arrays = again(rows, training=False, keys=np.zeros(rows.num_rows, np.uint64))
    with torch.no_grad():
        said = network({feature: torch.from_numpy(array) for feature, array in arrays.items()}).features
    assert torch.equal(said, made.features(name, {column: rows.column(column) for column in rows.column_names}))


CHECKS: dict[str, Callable[[Dumped, Path], None]] = {
    "categorical_mlp": check_table,
    "clip": check_clip,
    "ft_transformer": check_table,
    "hf_text": check_text,
    "numerical_mlp": check_table,
    "timm_image": check_image,
}


# Families of pictures with boxes or masks -> the tests that do the same with such.
ELSEWHERE = {"mmdet_image": "tests/train/test_detection.py", "sam": "tests/train/test_segmentation.py"}


def test_every_family_can_be_dumped() -> None:
    families = [name for name in FAMILIES.names() if not fuses(FAMILIES.load(name))]
    assert [name for name in families if not can_dump(FAMILIES.load(name))] == []
    assert sorted([*CHECKS, *ELSEWHERE]) == families


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_says_what_was_trained_wherever_it_lies(name: str, dumped: Callable[[str], Dumped], tmp_path: Path) -> None:
    made = dumped(name)
    moved = Path(shutil.copytree(made.result["uri"], tmp_path / "moved"))
    shutil.move(made.run.store, f"{made.run.store}.away")
    try:
        branches = [branch.name for branch in made.model.assembly.branches]
        assert sorted(path.name for path in moved.iterdir() if path.is_dir()) == sorted(branches)
        for branch in branches:
            CHECKS[branch](made, moved / branch)
        assert find_backbone(str(moved)).folder.uri == str(moved)
    finally:
        shutil.move(f"{made.run.store}.away", made.run.store)
    assert {one["equal"] for one in made.result["check"].values()} == {True}


def test_the_card(dumped: Callable[[str], Dumped]) -> None:
    made = dumped("fusion_mlp")
    card, run = made.backbone.card, made.run
    model = find_model("run:run", store=run.store).card
    assert card.model is not None
    assert (card.model["digest"], card.model["uri"]) == (model.digest, model.at)
    assert (card.checkpoint, card.step, card.parent) == (None, model.step, None)
    assert card.dataset == {"digest": run.card.digest, "uri": run.card.at}
    assert card.at == made.result["uri"] == f"{run.store}/backbones/{card.digest}"
    assert card.branch("hf_text").columns == ("review",)
    assert card.branch("hf_text").config["checkpoint_name"] == "local"
    assert set(card.files_of("hf_text")) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert parse_card(card.to_bytes(), where="there") == card
    written = Path(made.run.store).parent / "out"
    assert json.loads((written / "result.json").read_text()) == made.result
    assert find_backbone(str(written)).card == card
    texts = b"".join(path.read_bytes() for path in written.rglob("*/*") if path.suffix == ".json")
    assert str(Path(made.run.store).parent).encode() not in texts, "no file names the machine"


def test_the_same_content_is_not_written_twice(dumped: Callable[[str], Dumped]) -> None:
    made = dumped("fusion_mlp")
    before = (Path(made.result["uri"]) / CARD).stat().st_mtime_ns
    again = dump_backbone(model=find_model("run:run", store=made.run.store).folder.uri, store=made.run.store)
    assert again["uri"] == made.result["uri"]
    assert (Path(again["uri"]) / CARD).stat().st_mtime_ns == before
    (Path(again["uri"]) / "hf_text" / "config.json").unlink()
    with pytest.raises(WrongInput, match=r"files of Backbone .* are missing or cut"):
        find_backbone(again["uri"])
    dump_backbone(model="run:run", store=made.run.store)
    assert find_backbone(again["uri"]).card.digest == again["digest"]


def test_another_backbone_in_the_same_folder_takes_its_place(dumped: Callable[[str], Dumped], tmp_path: Path) -> None:
    both, one = dumped("fusion_mlp"), dumped("hf_text")
    for made in (both, one):
        dump_backbone(model="run:run", store=made.run.store, output=str(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("*/*.safetensors")) == ["model.safetensors"]
    assert find_backbone(str(tmp_path)).card.names == ("hf_text",)


def test_damage_is_refused(dumped: Callable[[str], Dumped], tmp_path: Path) -> None:
    made = dumped("fusion_mlp")
    model = Path(shutil.copytree(find_model("run:run", store=made.run.store).folder.uri, tmp_path / "model"))
    flip(model / "model.ckpt" / "model.safetensors")
    with pytest.raises(Damaged, match="damaged, its bytes are not those"):
        dump_backbone(model=str(model), store=str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()
    copy = Path(shutil.copytree(made.result["uri"], tmp_path / "backbone"))
    flip(copy / "hf_text" / "model.safetensors")
    with pytest.raises(Damaged, match=r"hf_text/model.safetensors: damaged"):
        find_backbone(str(copy)).fetch("hf_text", tmp_path / "fetched")
    whole = find_backbone(made.result["uri"])
    fetched = whole.fetch("hf_text", tmp_path / "here" / "hf_text")
    assert (
        load_file(fetched / "model.safetensors").keys()
        == load_file(f"{whole.folder.uri}/hf_text/model.safetensors").keys()
    )
    with pytest.raises(WrongInput, match="has no branch 'timm_image'; it has"):
        whole.fetch("timm_image", tmp_path)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card["files"].pop("hf_text/config.json"), "digest is not that of the files"),
        (lambda card: card["files"].update({"../../x": {"size": 1, "blake3": ""}}), "not inside its own folder"),
        (lambda card: card["branches"][0].update(name=".."), "no folder of its own"),
        (lambda card: card["branches"][0].update(name="clip"), "names the branch 'clip' and no file of it"),
        (lambda card: card.update(kind="model"), "describes a model, not a backbone"),
        (lambda card: card.update(format=9), "has format 9"),
        (lambda card: card.pop("branches"), "not a whole backbone card"),
    ],
)
def test_cards_that_are_not_believed(
    dumped: Callable[[str], Dumped], tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    card = json.loads((Path(dumped("hf_text").result["uri"]) / CARD).read_text())
    change(card)
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(WrongInput, match=words):
        find_backbone(str(tmp_path))


def test_a_card_alone_leads_to_its_files(dumped: Callable[[str], Dumped], tmp_path: Path) -> None:
    made = dumped("hf_text")
    shutil.copy(f"{made.result['uri']}/{CARD}", tmp_path)
    assert find_backbone(str(tmp_path)).folder.uri == made.result["uri"]
    assert find_backbone(made.result["digest"], store=made.run.store).folder.uri == made.result["uri"]
    with pytest.raises(WrongInput, match="no Backbone there"):
        find_backbone(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_stores_of_other_kinds(
    kind: str, dumped: Callable[[str], Dumped], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made = dumped("fusion_mlp")
    store = "memory://dumps" if kind == "memory" else request.getfixturevalue("s3_store_uri")
    model = find_model("run:run", store=made.run.store)
    copy_tree(model.folder, open_store(f"{store}/copy"), [*model.card.files, "model.json"])
    result = dump_backbone(model=f"{store}/copy", store=store)
    assert result["uri"] == f"{store}/backbones/{made.result['digest']}"
    found = find_backbone(result["uri"])
    for branch in found.card.names:
        CHECKS[branch](made, found.fetch(branch, tmp_path / branch))


PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"


@pytest.mark.parametrize("name", ["clip", "ft_transformer", "hf_text", "timm_image"])
def test_the_page_opens_it(name: str, dumped: Callable[[str], Dumped]) -> None:
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (code,) = [one for one in found if f"{{backbone}}/{name}" in one]
    exec(code, {"backbone": dumped(name).result["uri"]})
