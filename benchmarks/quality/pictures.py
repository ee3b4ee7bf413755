"""Owns the quality of what is told of pictures' parts: boxes (mmdet_image) and masks (sam), small models on a CPU.

    make quality      or      python -m benchmarks.quality.pictures --case cells --seeds 0

    few           8 pictures, learned until they are known: shows that the chain from file to score is right
    A from B      B's model dumped, transfer-train on A, beside A from random weights with the same budget

Each model is scored on pictures that nothing was chosen by; what starts from another is held against its twin from
random weights by evaluate's own gate: a paired bootstrap over these pictures.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import yaml

from benchmarks.quality.cases import DATA, ROOT, SEEDS
from benchmarks.quality.command import WORK, carryover
from benchmarks.quality.results import Results
from carryover import __version__

RESULTS = Results(ROOT / "benchmarks" / "results" / "pictures.jsonl", key=("case", "arm", "seed"))
SCRATCH = "random weights"
FEW = 8

_SMALL = {
    "optimization.learning_rate": 2e-3,
    "optimization.patience": 1000,
    "env.batch_size": 8,
    "env.per_gpu_batch_size": 8,
    "env.num_workers": 0,
    "env.num_workers_evaluation": 0,
}
DETECTOR: dict[str, Any] = {
    **_SMALL,
    "model.names": ["mmdet_image"],
    "model.mmdet_image.pretrained": False,
    "model.mmdet_image.image_size": 192,
    "optimization.max_epochs": 30,
    "optimization.check_val_every_n_epoch": 5,
    "optimization.val_check_interval": 1.0,
}


@dataclass(frozen=True)
class PictureCase:
    """One set of pictures.

    Attributes:
        folder: of the data set.
        few: how many pictures of the train split are learned, and scored on; 0 for all, scored on the val split.
        recipe: of every arm.
        start: case whose Model of the same seed an arm starts from; "" for none.
        metric: what is compared; `least`: what it has to reach, None where nothing is asked.
        files: the configuration of the network, by recipe key, made when it is needed: given where an arm starts from
            nothing.
    """

    name: str
    title: str
    folder: str
    recipe: Mapping[str, Any]
    files: Mapping[str, Callable[[], str]]
    metric: str
    few: int = 0
    start: str = ""
    least: float | None = None
    note: str = ""


SEGMENTER: dict[str, Any] = {
    **_SMALL,
    "model.names": ["sam"],
    "model.sam.pretrained": False,
    "optimization.learning_rate": 1e-3,
    "optimization.max_epochs": 30,
    "optimization.check_val_every_n_epoch": 10,
    "optimization.val_check_interval": 1.0,
}


def _small_sam() -> str:
    """Write the configuration of a small SAM that reads squares of 128 pixels; return its folder."""
    import transformers as hf

    folder = WORK / "pictures" / "small-sam"
    vision = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "mlp_dim": 256, "image_size": 128}
    vision |= {"patch_size": 8, "window_size": 4, "global_attn_indexes": [1, 3], "output_channels": 64}
    decoder = {"hidden_size": 64, "mlp_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    prompts = {"hidden_size": 64, "image_size": 128, "patch_size": 8, "mask_input_channels": 8}
    hf.SamConfig(
        vision_config={**vision, "num_pos_feats": 32},
        prompt_encoder_config=prompts,
        mask_decoder_config={**decoder, "iou_head_hidden_dim": 16},
    ).save_pretrained(folder)
    hf.SamImageProcessor().save_pretrained(folder)
    return str(folder)


_YOLOX = {"model.mmdet_image.checkpoint_name": lambda: str(Path(__file__).with_name("detector.py"))}
_KNOWN = {
    **DETECTOR,
    "model.mmdet_image.train_transforms": [],
    "optimization.max_epochs": 300,
    "optimization.check_val_every_n_epoch": 75,
    "env.batch_size": 4,
    "env.per_gpu_batch_size": 4,
}

CASES: tuple[PictureCase, ...] = (
    PictureCase("raccoon few", "8 raccoons, by heart", "det_raccoon", _KNOWN, _YOLOX, "map_50", few=FEW, least=0.9),
    PictureCase("cells few", "8 blood smears, by heart", "det_blood_cells", _KNOWN, _YOLOX, "map_50", FEW, least=0.9),
    PictureCase("raccoon", "Raccoons", "det_raccoon", DETECTOR, _YOLOX, "map_50"),
    PictureCase("cells", "Blood cells, 3 classes", "det_blood_cells", DETECTOR, _YOLOX, "map_50", start="raccoon"),
    PictureCase(
        "streets",
        "Pixels of streets (CamVid), 11 classes",
        "seg_camvid",
        SEGMENTER,
        {"model.sam.checkpoint_name": _small_sam},
        "iou",
        note="A SAM of 0.4 M parameters from random weights, on squares of 128 pixels, 72 pictures to learn from; "
        "scored at the pictures' own size, the mean over classes.",
    ),
)


def main() -> None:
    """Run what was asked for, then write the page."""
    from benchmarks.quality.run import write_page

    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--case", action="append", choices=[case.name for case in CASES], help="default: all")
    flags.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    asked = flags.parse_args()
    run(cases=asked.case, seeds=asked.seeds)
    write_page()


def run(*, cases: list[str] | None, seeds: list[int]) -> None:
    """Run cases (None: all): first what starts from nothing, then what starts from it."""
    chosen = [case for case in CASES if not cases or case.name in cases]
    for case in [case for case in chosen if not (DATA / case.folder).is_dir()]:
        print(f"{case.name}: no data in {DATA / case.folder}; set CARRYOVER_DATA to the folder that has it")
        chosen.remove(case)
    for started in (False, True):
        for case in chosen:
            for seed in seeds if not case.few else seeds[:1]:
                if case.start or not started:
                    RESULTS.put(learn(case, seed, started=started))


def learn(case: PictureCase, seed: int, *, started: bool) -> dict[str, Any]:
    """Train and score one arm; return its line."""
    dataset, folder = _prepare(case), _folder(case.name, seed, started=started)
    folder.mkdir(parents=True, exist_ok=True)
    files = {} if started else {key: made() for key, made in case.files.items()}
    # Where to start from is said once: by the recipe, or by what a backbone brings.
    own = {key: value for key, value in case.recipe.items() if not (started and key.endswith(".pretrained"))}
    keys = {**own, **files, "seed": seed}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
    train = ["train-ddp"]
    if started:
        model = _folder(case.start, seed, started=False) / "model"
        carryover("dump-backbone", "--model", str(model), "--output", str(folder / "backbone"))
        train = ["transfer-train", "--backbone", str(folder / "backbone")]
    carryover(*train, "--dataset", dataset, "--recipe", str(folder / "recipe.yaml"), "--output", str(folder / "model"))
    twin = ["--baseline", str(_folder(case.name, seed, started=False) / "model")] if started else []
    carryover(
        "evaluate", "--model", str(folder / "model"), "--dataset", dataset, *twin, "--metric", case.metric,
        "--output", str(folder / "report"),
    )  # fmt: skip
    result = json.loads((folder / "report" / "result.json").read_text())
    arm = f"from the model of {case.start}" if started else SCRATCH
    value = result["metrics"][case.metric]
    print(f"{case.name}, {arm}, seed {seed}: {case.metric} {value:.3f}", flush=True)
    return {
        "case": case.name, "arm": arm, "seed": seed, "metric": case.metric, "value": value, "rows": result["rows"],
        "gate": result["gate"], "date": datetime.now(UTC).date().isoformat(), "version": __version__,
    }  # fmt: skip


def _folder(case: str, seed: int, *, started: bool) -> Path:
    return WORK / "pictures" / case / ("started" if started else "scratch") / str(seed)


def _prepare(case: PictureCase) -> str:
    """Prepare a case's pictures; return the folder of the Dataset's card."""
    source, folder = DATA / case.folder, WORK / "pictures" / case.name
    folder.mkdir(parents=True, exist_ok=True)
    words = _masks(source, folder) if (source / "index.csv").exists() else _boxes(source, folder, case.few)
    carryover("prepare-data", *words, "--output", str(folder / "data"))
    return str(folder / "data")


def _boxes(source: Path, folder: Path, few: int) -> list[str]:
    """Return what prepare-data is given of COCO's annotations."""
    train, test = (str(source / "annotations" / f"instances_{part}.json") for part in ("train", "val"))
    if not few:
        return ["--source", train, "--test-source", test, "--train-fraction", "0.9", "--validation-fraction", "0.1"]
    known = json.loads(Path(train).read_text())
    pictures = known["images"][:few]
    for picture in pictures:
        picture["file_name"] = str(source / "images" / "train" / Path(picture["file_name"]).name)
    ids = {picture["id"] for picture in pictures}
    boxes = [box for box in known["annotations"] if box["image_id"] in ids]
    cut = folder / "few.json"
    cut.write_text(json.dumps({**known, "images": pictures, "annotations": boxes}), encoding="utf-8")
    return [word for flag in ("--source", "--validation-source", "--test-source") for word in (flag, str(cut))]


def _masks(source: Path, folder: Path) -> list[str]:
    """Return what prepare-data is given of pictures and masks in a table."""
    whole = pyarrow.csv.read_csv(source / "index.csv")
    split = whole["split"].to_numpy(zero_copy_only=False)
    for part, rows in (("train", split == "train"), ("test", split == "val")):
        pq.write_table(whole.filter(pa.array(rows)).select(["image", "mask"]), folder / f"{part}.parquet")
    for link in (path for path in source.iterdir() if path.is_dir()):
        if not (folder / link.name).exists():
            (folder / link.name).symlink_to(link)
    return [
        "--source", str(folder / "train.parquet"), "--test-source", str(folder / "test.parquet"), "--label", "mask",
        "--problem-type", "semantic_segmentation", "--ignore-label", "11", "--train-fraction", "0.9",
        "--validation-fraction", "0.1",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
