"""What the tests of troubles work on: broken files of every sort, a small dataset, a run that was killed, a command."""

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carryover.cli.main import main
from carryover.data.manifest import DatasetCard

GOOD = "x,y\n" + "".join(f"{number},{'ab'[number % 2]}\n" for number in range(30))


@dataclass(frozen=True)
class World:
    """A folder with files, the datasets that tests start from, and the command line in this process."""

    folder: Path
    small: DatasetCard
    capsys: pytest.CaptureFixture[str]

    @property
    def store(self) -> str:
        return str(self.folder / "store")

    def file(self, name: str, content: str | bytes) -> str:
        """Write a file; returns its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def cli(self, *words: object) -> tuple[int, str]:
        """Run `carryover WORDS`; returns its exit code and what it said on stderr."""
        self.capsys.readouterr()
        try:
            main([str(word) for word in words])
            code = 0
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, self.capsys.readouterr().err


def broken_files(world: World) -> dict[str, str]:
    """Make one of each kind of file that can't be read as what it says it is; kind -> path."""
    noise = bytes((7 * number * number + 13 * number) % 251 + 4 for number in range(3000))
    table = world.folder / "whole.parquet"
    pq.write_table(pa.table({"x": [1, 2, 3], "y": ["a", "b", "a"]}), table)
    whole = table.read_bytes()
    (world.folder / "loop-a.csv").symlink_to("loop-b.csv")
    (world.folder / "loop-b.csv").symlink_to("loop-a.csv")
    (world.folder / "folder.csv").mkdir()
    made = {
        "empty.csv": b"",
        "noise.csv": noise,
        "noise.parquet": noise,
        "noise.jsonl": noise,
        "noise.json": noise,
        "half.parquet": whole[: len(whole) // 2],
        "latin.csv": b"x,y\n1,\xe9\n2,b\n",
        "utf16.csv": GOOD.encode("utf-16"),
        "twice.csv": b"x,x\n1,2\n",
        "open-quote.csv": b'x,y\n1,"a\n2,b\n',
        "list.jsonl": b"[1, 2]\n",
        "half.jsonl": b'{"x": 1, "y": "a"}\n{"x": 2, "y"',
        "half.json": b'{"images": [',
        "ending.xyz": GOOD.encode(),
        "\x1b[31mred.csv": b"x\n1\n",
    }
    found = {name: world.file(name, content) for name, content in made.items()}
    found |= {name: str(world.folder / name) for name in ("loop-a.csv", "folder.csv", "nothing.csv", "whole.parquet/x")}
    return {
        **found,
        "": "",
        "scheme": "ftp://host/x.csv",
        "bucket": "s3://",
        "chained": "zip::x.csv",
        "device": os.devnull,
    }
