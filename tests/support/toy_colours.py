"""Owns a family that finds colours in pictures, as boxes or as masks: what it says is known to the pixel.

A detector gives one box around all pixels of each colour, moved right by its only weight; a segmenter gives each pixel
the colour that it has, moved likewise.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn

from carryover.checkpoint.snapshot import snapshot
from carryover.data.config import DataConfig
from carryover.data.manifest import load_card
from carryover.data.schema import Column, Schema
from carryover.ground.config import key
from carryover.ground.storage import open_store
from carryover.models.assembly import Assembly, Branch, build_network, build_preprocessing
from carryover.models.export import make_card, model_files, weights_of, write_model
from carryover.models.family import Output
from carryover.tasks.task import make_task, task_files

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 160, 30)}
SIDE = 64


@dataclass(frozen=True)
class ToyConfig:
    """What is found, in the order of the classes, and how it is told."""

    colours: tuple[str, ...] = key((), help="colours, the background's not among them")
    masks: bool = key(False, help="whether masks are told, not boxes")
    output_bbox_format: str = key("xyxy", help="of boxes in tables", allowed="xyxy, xywh")


@dataclass(frozen=True)
class ToyPreprocessor:
    """Pixels [B, 3, H, W]: of boxes as they are, filled up with black; of masks brought to one size."""

    column: str
    masks: bool

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        pictures = [Image.open(io.BytesIO(cell[0])).convert("RGB") for cell in rows[self.column].to_pylist()]
        if self.masks:
            pictures = [one.resize((SIDE, SIDE), Image.Resampling.NEAREST) for one in pictures]
        height, width = (max(one.size[axis] for one in pictures) for axis in (1, 0))
        found = np.zeros((len(pictures), 3, height, width), np.float32)
        for place, one in enumerate(pictures):
            found[place, :, : one.height, : one.width] = np.asarray(one).transpose(2, 0, 1)
        return {"pixels": found}

    def files(self) -> dict[str, bytes]:
        return {"column.txt": f"{self.column}\n{int(self.masks)}".encode()}


class ToyNetwork(nn.Module):
    """Finds each colour."""

    out_features = 1
    colours: Tensor

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.masks = config.masks
        self.shift = nn.Parameter(torch.zeros(1))
        self.register_buffer("colours", torch.tensor([COLOURS[name] for name in config.colours]), persistent=False)

    def forward(self, features: Mapping[str, Tensor]) -> Output:
        pixels = features["pixels"]
        near = (pixels[:, None] - self.colours[None, :, :, None, None]).abs().amax(dim=2) < 45
        told = self._masks(near) if self.masks else self._boxes(near)
        return Output(pixels.new_zeros(len(pixels), 1), told + 0 * self.shift)

    def _masks(self, near: Tensor) -> Tensor:
        near = near.roll(round(float(self.shift)), dims=-1)
        return torch.cat([~near.any(dim=1, keepdim=True), near], dim=1).float()

    def _boxes(self, near: Tensor) -> Tensor:
        found = torch.full((len(near), near.shape[1], 6), -1.0)
        for picture, place in np.argwhere(near.flatten(2).any(dim=2).numpy()).tolist():
            y, x = near[picture, place].nonzero().T
            move = float(self.shift)
            corners = (float(x.min()) + move, float(y.min()), float(x.max()) + 1 + move, float(y.max()) + 1)
            score = 0.5 + len(x) / 5000 + 0.001 * picture
            found[picture, place] = torch.tensor([*corners, score, place])
        return found


class ToyFamily:
    """See `carryover.models.family.Family`."""

    name = "toy_colours"
    Config = ToyConfig

    def check(self, config: ToyConfig) -> None: ...

    def portable(self, config: ToyConfig) -> ToyConfig:
        return config

    def reads(self, schema: Schema, config: ToyConfig) -> tuple[Column, ...]:
        return schema.features("image_path")

    def preprocessor(self, config: ToyConfig, schema: Schema, data: DataConfig) -> ToyPreprocessor:
        return ToyPreprocessor(schema.features("image_path")[0].name, config.masks)

    def restore(self, config: ToyConfig, files: Mapping[str, bytes]) -> ToyPreprocessor:
        column, masks = files["column.txt"].decode().split("\n")
        return ToyPreprocessor(column, masks == "1")

    def network(self, config: ToyConfig, preprocessor: Any, *, num_outputs: int | None, pretrained: bool) -> ToyNetwork:
        return ToyNetwork(config)


FAMILY = ToyFamily()


def install(folder: Path) -> str:
    """Make the family known as another package would; returns what must stand on the path."""
    about = folder / "toy-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[carryover.families]\ntoy_colours = tests.support.toy_colours:FAMILY\n")
    return str(folder)


def write_toy(dataset: str, store: str, *, shift: float = 0.0, colours: tuple[str, ...], form: str = "xyxy") -> str:
    """Write a Model that finds colours; returns its URI."""
    card = load_card(dataset)
    config = ToyConfig(colours, card.schema.problem_type == "semantic_segmentation", form)
    column = card.schema.features("image_path")[0].name
    assembly = Assembly((Branch("toy_colours", "toy_colours", config, (column,)),), None, ())
    preprocessing = build_preprocessing(assembly, card.schema, DataConfig())
    task = make_task(card.schema, DataConfig())
    network = build_network(assembly, preprocessing, task.num_outputs)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(shift)
    files = model_files(assembly, preprocessing, task_files(task))
    weights = weights_of(snapshot({f"model/{name}": value for name, value in network.state_dict().items()}))
    made = make_card(
        files,
        weights,
        schema=card.schema,
        recipe={},
        run_key="run",
        step=1,
        checkpoint_uri="",
        dataset={"digest": card.digest, "uri": card.at},
        store=store,
    )
    return write_model(open_store(made.at), made, files, weights)
