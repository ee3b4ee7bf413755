"""Owns the measurement of row g: how soon the first batch comes from the middle of an epoch, and what memory it takes.

python -m benchmarks.position [--quick]                                    benchmarks/results/position.json

Arrow file of N rows, a byte each, in record batches of 65,536 rows as prepare-data cuts them; its pages in memory
    carryover      Rows.open, MicroBatches, load, next: all that a start does about its data, global batch 128 in
                   micro-batches of 8; medians over 64 starts, each a batch further on
row numbers without a file (benchmarks/peers/place.py)
    others         the program's own way to the place, batches of 8; streaming reads files of its own
figures            at 0 % and at 50 % of epoch 1 and of epoch 3: seconds and CPU seconds to the first batch, and by
                   how much the process's own memory grew at its highest
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.arms import Arm, Figures, Goal, Spread, interleaved, spread, write
from benchmarks.children import measured
from benchmarks.peers.place import measure
from benchmarks.peers.programs import Absent, python_of, run_in, versions

BATCH, MICRO, STARTS = 128, 8, 64
GROUP = 65_536
SIZES = (10**4, 10**6, 10**7, 10**8)
# Program -> its environment, and the most rows it is given.
OTHERS = {
    "sampler": ("torchdata", 10**7),
    "torchdata": ("torchdata", 10**7),
    "accelerate": ("trainer", 10**7),
    "streaming": ("streaming", 10**6),
}
SHOWN = {"sampler": "torch DataLoader", "accelerate": "accelerate", "streaming": "StreamingDataset"}
NOTES = (
    "The other programs keep an epoch's order as a list of all its rows; at 10^8 that is minutes and gigabytes, so "
    "they are measured up to 10^7. StreamingDataset is measured up to 10^6, as writing its files takes longest.",
    "Their rows cost nothing, ours are read from a file: that favours them at 0 %.",
)


def main() -> None:
    """Measure all, and write the topic's file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two repeats, the others up to 10^6 rows")
    parser.add_argument("--ours", nargs=2, metavar=("ROWS", "FILE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ours:
        rows, file = asked.ours
        print(json.dumps(ours(int(rows), Path(file))))
        return
    repeats, limit = (2, 10**6) if asked.quick else (5, SIZES[-1])
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="position-") as folder:
        for rows in SIZES:
            file = write_rows(Path(folder) / "rows.arrow", rows)
            others = [
                _other(name, rows, folder)
                for name, (_, most) in OTHERS.items()
                if rows <= min(most, limit) and _ready(name)
            ]
            figures |= interleaved([_ours(rows, file), *others], repeats)
            file.unlink()
    command = "python -m benchmarks.position" + " --quick" * asked.quick
    write("position", command, figures, _goals(figures), NOTES, versions("torchdata", "trainer", "streaming"))


def write_rows(path: Path, rows: int) -> Path:
    """Write an Arrow file of so many rows."""
    import numpy as np
    import pyarrow as pa

    from carryover.data.rows import write_arrow

    table = pa.table({"x": np.arange(min(rows, GROUP), dtype=np.int8)})
    return write_arrow(path, table.schema, (table.slice(0, rows - start) for start in range(0, rows, GROUP)))


def ours(rows: int, file: Path) -> dict[str, float]:
    """Measure carryover's own way in this process."""
    import numpy as np

    from carryover.data.loader import MicroBatches, load, training_micros
    from carryover.data.rows import Rows

    def features(table: Any, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": table["x"].to_numpy().astype(np.float32)}

    def first(epoch: int, position: int) -> Iterator[Any]:
        split = Rows.open(file)
        batches = MicroBatches(split, features, lambda table: table["x"].to_numpy().copy(), training=True)
        micros = training_micros(
            rows=len(split), epoch=epoch, position=position, batch_size=BATCH, micro_size=MICRO, rank=0, world=1
        )
        return load(micros, batches, workers=0)

    # Every page in memory, for both places alike.
    with open(file, "rb") as pages:
        while pages.read(1 << 24):
            pass
    return measure(first, rows, rounds=STARTS, step=BATCH)


def _ours(rows: int, file: Path) -> Arm:
    words = [sys.executable, "-m", "benchmarks.position", "--ours", str(rows), str(file)]
    return Arm(f"{rows:,} rows / carryover", lambda: measured(words, env={"OMP_NUM_THREADS": "1"}).line())


def _other(name: str, rows: int, folder: str) -> Arm:
    arguments = [name, rows, f"{folder}/{name}-{rows}"]
    shown = SHOWN.get(name, name)
    return Arm(f"{rows:,} rows / {shown}", lambda: run_in(OTHERS[name][0], "place", arguments).line())


def _ready(name: str) -> bool:
    try:
        python_of(OTHERS[name][0])
    except Absent as absent:
        print(f"{name}: {absent}", flush=True)
        return False
    return True


def _over(figures: Figures, arm: str, unit: str, epoch: int = 1) -> Spread:
    """Return 50 % over 0 %, repeat by repeat."""
    middle, start = (figures[arm][f"at {part}, epoch {epoch}{unit}"] for part in ("50 %", "0 %"))
    return spread([one / other for one, other in zip(middle, start, strict=True)])


def _goals(figures: Figures) -> list[Goal]:
    peers = {arm: _over(figures, arm, "_cpu_s").median for arm in figures if not arm.endswith("/ carryover")}
    told = [f"{arm.partition(' / ')[2]} {least:.1f}" for arm, least in sorted(peers.items(), key=lambda one: one[1])]
    goals = []
    for rows in SIZES:
        found = _over(figures, f"{rows:,} rows / carryover", "_cpu_s")
        what = f"CPU time to the first batch at 50 % of an epoch over at 0 %, {rows:,} rows"
        why = "a place is computed, never walked to; what differs is how often a row number falls outside the split"
        goals.append(Goal("g", what, found.median, 1, "<= 1.05", why, found.low, found.high, (told or [""])[0]))
    least, *_, most = (spread(figures[f"{rows:,} rows / carryover"]["first start_bytes"]).median for rows in SIZES)
    why = "the index of record batches: a few hundred bytes for each 65,536 rows or 8 MiB"
    what = f"memory of a start with {SIZES[-1]:,} rows beyond that with {SIZES[0]:,}, in MB"
    return [*goals, Goal("g", what, (most - least) / 1e6, 0, "<= 10", why)]


if __name__ == "__main__":
    main()
