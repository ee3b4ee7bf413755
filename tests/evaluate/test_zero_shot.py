"""evaluate --zero-shot: a checkpoint's own similarities, as an ordinary Model; the command line; what is refused."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers as hf

from carryover.ground.errors import WrongInput
from carryover.models.export import find_model
from carryover.models.pixels import decode
from carryover.steps.evaluate import evaluate
from carryover.steps.prepare_data import prepare_data
from tests.models.test_clip import embeddings
from tests.support.tiny_clip import save_tiny_clip
from tests.support.tiny_timm import photo

CLASSES = ("a_cat", "dog", "no.place")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Rows of an image, a text and one of three classes; a row has no image."""
    folder, chance = tmp_path_factory.mktemp("zero-shot"), random.Random(0)
    lines = ["shown,note,kind"]
    for row in range(30):
        (folder / f"{row}.png").write_bytes(photo(chance, row % 2, (16, 16)))
        lines.append(f"{'' if row == 7 else f'{row}.png'},some words {row},{CLASSES[row % 3]}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    store = str(folder / "store")
    types = {"shown": "image_path", "note": "text"}
    made = prepare_data(
        source=[str(folder / "rows.csv")], label="kind", store=store, column_types=types, train_fraction=0.8
    )
    return {"uri": made["uri"], "store": store}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_classes_are_told_as_the_checkpoint_itself_tells_them(
    dataset: dict[str, str], tmp_path: Path, kind: str
) -> None:
    folder = save_tiny_clip(tmp_path / kind, kind)
    asked: dict[str, Any] = {
        "class_name": ["no.place=great place"],
        "prompt": ["a photo of {}", "good {}"],
    }
    found = evaluate(zero_shot=str(folder), dataset=[dataset["uri"]], store=dataset["store"], split="train", **asked)
    table = pq.read_table(found["predictions"]).sort_by("row")
    names = ["a cat", "dog", "great place"]
    shown = pq.read_table(next(Path(dataset["uri"]).glob("train-*.parquet")))
    pixels = [one[0] for one in shown["shown"].to_pylist() if one]
    lines = [f"{start} {name}" for name in names for start in ("a photo of", "good")]
    _, texts = embeddings(folder, torch.zeros(1, 3, 16, 16), lines)
    means = torch.nn.functional.normalize(texts.view(3, 2, -1).mean(1), dim=-1)
    images, _ = embeddings(folder, torch.stack([_decoded(data) for data in pixels]), ["a"])
    scale = hf.AutoModel.from_pretrained(folder).logit_scale.exp()
    want = iter((images @ means.T * scale).softmax(dim=-1).tolist())
    chances = [table.column(f"probability_{name}").to_pylist() for name in CLASSES]
    for row, image in enumerate(shown["shown"].to_pylist()):
        said = [chance[row] for chance in chances]
        # A row without an image could be anything.
        assert said == pytest.approx(next(want) if image else [1 / 3] * 3, abs=1e-4)
    right = [one == two for one, two in zip(table["label"].to_pylist(), table["prediction"].to_pylist(), strict=True)]
    assert found["metrics"]["accuracy"] == pytest.approx(sum(right) / shown.num_rows)
    model = find_model(found["model_uri"])
    assert (model.card.step, model.card.run_key) == (0, "")
    again = evaluate(model=found["model_uri"], dataset=[dataset["uri"]], store=dataset["store"], split="train")
    assert again["metrics"] == found["metrics"]


def _decoded(data: bytes) -> torch.Tensor:
    return torch.from_numpy(np.asarray(decode(data)).transpose(2, 0, 1).copy()).float()


def test_the_command_line_needs_no_model(dataset: dict[str, str], tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path / "clip")
    command = [sys.executable, "-m", "carryover.cli.main", "evaluate", "--zero-shot", str(folder)]
    names = ["--class-name", "a_cat=a great cat", "dog=dog.", "--prompt", "photo {}", "--split", "train"]
    place = ["--dataset", dataset["uri"], "--store", dataset["store"], "--output", str(tmp_path / "out")]
    ended = subprocess.run([*command, *names, *place], capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "accuracy" in ended.stdout
    assert json.loads((tmp_path / "out" / "result.json").read_text())["rows"] > 15


def test_what_is_not_possible_is_said(dataset: dict[str, str], tmp_path: Path) -> None:
    def refused(words: str, **asked: object) -> None:
        given = {"zero_shot": str(tmp_path / "none"), "dataset": [dataset["uri"]], "store": dataset["store"]}
        with pytest.raises(WrongInput, match=words):
            evaluate(**{**given, **asked})  # pyright: ignore[reportArgumentType]

    refused("give one of them", model="run:x")
    refused("give one of them", zero_shot="")
    refused("belong to --zero-shot", zero_shot="", model="run:x", prompt=["a {}"])
    refused(r"must be CLASS=WORDS; the classes are a_cat, dog, no\.place", class_name=["bird=a bird"])
    refused(r"must have {} once", prompt=["a photo"])
    refused("there is no split 'fourth'", split="fourth")
    refused("there is no folder")
    (tmp_path / "rows.csv").write_text("x,y\n" + "\n".join(f"{row},{row % 2}" for row in range(40)) + "\n")
    for problem, words in (("binary", "no column of images"), ("regression", "only classes have names")):
        made = prepare_data(
            source=[str(tmp_path / "rows.csv")], label="y", store=dataset["store"], problem_type=problem,
            column_types={"x": "numerical"},
        )  # fmt: skip
        refused(words, dataset=[made["uri"]])
