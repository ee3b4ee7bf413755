"""Small files that stand for much: each is refused in one line, soon, and with little memory."""

import gzip
import resource
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from carryover.data import json_stream, masks, pictures
from carryover.data.images import is_image
from carryover.ground import yaml_text
from carryover.ground.errors import WrongInput
from carryover.models.pixels import decode
from carryover.steps.preflight import preflight
from carryover.steps.prepare_data import prepare_data

# Eight levels of ten: a billion values in half a kilobyte.
LAUGHS = "a: &a [0,0,0,0,0,0,0,0,0,0]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = 100_000
MOST_SECONDS, MOST_BYTES = 60, 1 << 30


@pytest.fixture(autouse=True)
def soon_and_small() -> Iterator[None]:
    """However it ends: soon, and without a gigabyte more than there was."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert time.monotonic() - began < MOST_SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < MOST_BYTES


def refused(source: Path, *, label: str = "liked") -> str:
    with pytest.raises(WrongInput) as error:
        prepare_data(source=[str(source)], label=label, store=str(source.parent / "store"))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("form", [LAUGHS, LAUGHS.replace("a: &a", "seed: &a"), f"seed:\n  - {LAUGHS[3:33]}\n"])
def test_yaml_whose_aliases_laugh(tmp_path: Path, form: str) -> None:
    with pytest.raises(WrongInput) as error:
        preflight(store=str(tmp_path / "store"), recipe=form)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("text", "said"), [(LAUGHS, "aliases stand for more than"), ("a: &a [*a]", "holds itself"), ("[" * 1000, "deeply")]
)
def test_yaml_is_read_as_plain_values(text: str, said: str) -> None:
    with pytest.raises(yaml_text.yaml.YAMLError, match=said):
        yaml_text.load(text)
    # Aliases as people write them.
    assert yaml_text.load("base: &base {a: 1}\nmore: {<<: *base, b: 2}") == {"base": {"a": 1}, "more": {"a": 1, "b": 2}}


def test_json_that_is_nested_without_end(tmp_path: Path) -> None:
    nested = "[" * DEEP + "]" * DEEP
    (tmp_path / "rows.jsonl").write_text(f'{{"x": {nested}, "liked": 1}}\n')
    assert "can't be read as jsonl at row 1" in refused(tmp_path / "rows.jsonl")
    (tmp_path / "coco.json").write_text(f'{{"images": [{nested}]}}')
    assert "nested too deeply" in refused(tmp_path / "coco.json", label="")


def test_json_that_is_one_value_without_end() -> None:
    class Endless:
        """A file that says "aaaa" for as long as one asks; a little of it is too much."""

        given = 0

        def read(self, size: int) -> bytes:
            self.given += size
            assert self.given < 4 * json_stream.LONGEST, "goes on reading"
            return b"a" * size if self.given > size else b'{"images": "' + b"a" * (size - 12)

    with pytest.raises(ValueError, match="one value is longer than 64 MiB"):
        next(json_stream.items(Endless()))  # type: ignore[arg-type]


def test_a_table_that_is_one_line_without_end(tmp_path: Path) -> None:
    """A few hundred kilobytes of gzip."""
    for name, head, said in (
        ("header", b"", "its header is longer than 2 MiB"),
        ("row", b"x,liked\n", "longer than 2 MiB"),
    ):
        with gzip.open(tmp_path / f"{name}.csv.gz", "wb", compresslevel=1) as file:
            file.write(head)
            for _ in range(64):
                file.write(b"a" * (1 << 20))
        assert said in refused(tmp_path / f"{name}.csv.gz")


def test_xml_whose_entities_laugh_or_look_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "voc" / "Annotations").mkdir(parents=True)
    entities = "".join(f'<!ENTITY {name} "{f"&{below};" * 50}">' for below, name in zip("abcde", "bcdef", strict=True))
    laughs = f'<!DOCTYPE x [<!ENTITY a "{"x" * 1000}">{entities}]><annotation><filename>&f;</filename></annotation>'
    other = (
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]><annotation><filename>&e;</filename></annotation>'
    )
    for text in (laughs, other):
        (tmp_path / "voc" / "Annotations" / "one.xml").write_text(text)
        assert "files are no XML: one.xml" in refused(tmp_path / "voc", label="")


def png(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and is a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def test_a_picture_of_a_terapixel() -> None:
    """Pillow's own limit, which nothing here raises: about 179 million pixels."""
    bomb = png(1_000_000, 1_000_000)
    assert not is_image(bomb)
    assert decode(bomb) is None
    for read in (pictures.size_of, masks.ids_of):
        with pytest.raises(ValueError, match="DecompressionBombError"):
            read(bomb)
    assert is_image(png(100, 100))
