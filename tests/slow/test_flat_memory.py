"""prepare-data reads a file larger than the memory it may have, and what it needs does not grow with the file.

Both files are read under the same limit on the process's data (RLIMIT_DATA), smaller than the larger file. What is
compared is the peak above that of a process which only imports, as a ratio: one file is eight times the other.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL_ROWS = 200_000
TIMES = 8
PROGRAM = """
import re, resource, sys
from pathlib import Path
from carryover.steps.prepare_data import prepare_data
source, store, limit = sys.argv[1:]
def peak():  # getrusage would count what the process that started this one had in memory
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
base = peak()
if source:
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
    prepare_data(source=[source], label="label", store=store)
print((peak() - base) << 10)
"""


def write_large(path: Path, rows: int) -> int:
    chance = random.Random(0)
    words = [f"word{number}" for number in range(2000)]
    texts = [" ".join(chance.choices(words, k=40)) for _ in range(5000)]
    with open(path, "w") as file:
        file.write("id,text,price,kind,label\n")
        for number in range(rows):
            row = (number, f'"{number} {texts[number % 5000]}"', chance.random(), number % 7, "xy"[number % 3 == 0])
            file.write(",".join(map(str, row)) + "\n")
    return path.stat().st_size


def growth(source: Path, store: Path, limit: int) -> int:
    """Return by how many bytes the peak memory of a prepare-data exceeds that of its imports."""
    command = [sys.executable, "-c", PROGRAM, str(source), str(store), str(limit)]
    # Arrow's usual allocator reserves a gigabyte of addresses, which the limit would count.
    env = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    ended = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    small = write_large(tmp_path / "small.csv", SMALL_ROWS)
    large = write_large(tmp_path / "large.csv", SMALL_ROWS * TIMES)
    limit = large * 3 // 4
    grown = [growth(tmp_path / f"{name}.csv", tmp_path / name, limit) for name in ("small", "large")]
    print(
        f"{small >> 20} MiB: +{grown[0] >> 20} MiB; {large >> 20} MiB: +{grown[1] >> 20} MiB; limit {limit >> 20} MiB"
    )
    assert large > 7.5 * small
    assert 0 < grown[1] < 2 * grown[0]


def write_images(folder: Path, count: int) -> Path:
    """Write so many images of a megabyte, and a table that names them."""
    (folder / "in").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (600, 600, 3), dtype=np.uint8)
    for number in range(count):
        noise[0, 0] = divmod(number, 256)[0], number % 256, 0
        Image.fromarray(noise).save(folder / "in" / f"{number}.png", compress_level=0)
    rows = "".join(f"in/{number}.png,{number},{number % 2}\n" for number in range(count))
    (folder / "a.csv").write_text(f"photo,x,label\n{rows}")
    return folder / "a.csv"


def test_memory_does_not_grow_with_the_images_that_a_file_names(tmp_path: Path) -> None:
    sources = {count: write_images(tmp_path / str(count), count) for count in (100, 800)}
    grown = [growth(source, tmp_path / str(count) / "store", 600 << 20) for count, source in sources.items()]
    assert grown[1] < 2 * grown[0]
