"""Owns the runs: each case prepared once, each arm trained with each seed and scored on the test rows, by the CLI.

    make quality      or      python -m benchmarks.quality.run --case sst2 --seeds 0 1 2

Everything lies in build/quality, so a run that was cut short goes on, and one that is finished is only scored. Results
are lines of benchmarks/results/quality.jsonl; a new one of the same case, arm and seed takes the place of the old.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from benchmarks.quality import pictures, streams
from benchmarks.quality.cases import CASES, DATA, ROOT, SEEDS, Case
from benchmarks.quality.command import WORK, carryover, resolved
from benchmarks.quality.page import PAGE, page
from benchmarks.quality.results import Results
from carryover import __version__

RESULTS = Results(ROOT / "benchmarks" / "results" / "quality.jsonl", key=("case", "arm", "seed"))


def main() -> None:
    """Run what was asked for, then write the page."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--case", action="append", choices=[case.name for case in CASES], help="default: all")
    flags.add_argument("--arm", action="append", help="default: all of a case")
    flags.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    flags.add_argument("--page-only", action="store_true", help="write docs/quality.md from the results there are")
    asked = flags.parse_args()
    for case in [] if asked.page_only else CASES:
        if asked.case and case.name not in asked.case:
            continue
        if not (DATA / case.folder).is_dir():
            print(f"{case.name}: no data in {DATA / case.folder}; set CARRYOVER_DATA to the folder that has it")
            continue
        dataset = prepare(case)
        for arm in case.arms:
            for seed in asked.seeds if not asked.arm or arm in asked.arm else ():
                RESULTS.put(score(case, arm, seed, dataset))
    if not asked.page_only and not asked.case:
        streams.run(streams=None, arms=None, seeds=asked.seeds)
        pictures.run(cases=None, seeds=asked.seeds)
    write_page()


def write_page() -> None:
    """Write docs/quality.md from the results there are."""
    PAGE.write_text(page(RESULTS.read(), streams.RESULTS.read(), pictures.RESULTS.read()), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")


def prepare(case: Case) -> str:
    """Prepare a case's rows; return the folder of the Dataset's card."""
    folder = WORK / case.name
    folder.mkdir(parents=True, exist_ok=True)
    train, test = case.tables(DATA / case.folder)
    for part, table in (("train", train), ("test", test)):
        pq.write_table(table, folder / f"{part}.parquet")
    for link in (path for path in (DATA / case.folder).iterdir() if path.is_dir()):
        # Paths of images are relative to the file that names them.
        if not (folder / link.name).exists():
            (folder / link.name).symlink_to(link)
    types = [word for name, kind in case.column_types.items() for word in ("--column-type", f"{name}={kind}")]
    carryover(
        "prepare-data", "--source", str(folder / "train.parquet"), "--test-source", str(folder / "test.parquet"),
        "--label", case.label, "--problem-type", case.problem_type, "--train-fraction", "0.9",
        "--validation-fraction", "0.1", "--test-fraction", "0", *types, "--output", str(folder / "data"),
    )  # fmt: skip
    return str(folder / "data")


def score(case: Case, arm: str, seed: int, dataset: str) -> dict[str, Any]:
    """Train one arm with one seed, and score it on the test rows; return its line.

    What an arm starts from must have been run, with the same seed.
    """
    folder = _folder(case.name, arm, seed)
    folder.mkdir(parents=True, exist_ok=True)
    keys = {**resolved(case.arms[arm]), "seed": seed}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
    train = ["train-ddp"]
    if arm in case.starts:
        backbone = str(folder / "backbone")
        carryover("dump-backbone", "--model", str(_folder(*case.starts[arm], seed) / "model"), "--output", backbone)
        train = ["transfer-train", "--backbone", backbone]
    started = time.monotonic()
    carryover(
        *train, "--dataset", dataset, "--recipe", str(folder / "recipe.yaml"), "--output", str(folder / "model")
    )  # fmt: skip
    seconds = time.monotonic() - started
    carryover("evaluate", "--model", str(folder / "model"), "--dataset", dataset, "--output", str(folder / "report"))
    table = pq.read_table(folder / "report" / "predictions.parquet")
    metrics = json.loads((folder / "report" / "metrics.json").read_text())["metrics"]
    result = json.loads((folder / "model" / "result.json").read_text())
    print(f"{case.name}, {arm}, seed {seed}: {case.metric} {metrics[case.metric]:.4f} ({seconds:.0f} s)", flush=True)
    return {
        "case": case.name,
        "arm": arm,
        "seed": seed,
        "metric": case.metric,
        "value": metrics[case.metric],
        "metrics": metrics,
        "rows": table.num_rows,
        "truth": [_short(value) for value in table["label"].to_pylist()],
        "predictions": [_short(value) for value in table["prediction"].to_pylist()],
        "recipe": dict(case.arms[arm]),
        "seconds": result["seconds"],
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
    }


def _folder(case: str, arm: str, seed: int) -> Path:
    return WORK / case / "".join(letter if letter.isalnum() else "-" for letter in arm) / str(seed)


def _short(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
