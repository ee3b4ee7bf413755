"""Owns one reader a source format: each gives batches of raw values, with memory for one batch at a time."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from carryover.data import coco, image_folder, pictures, values, voc
from carryover.data.problems import raise_all
from carryover.data.sources import BATCH_BYTES, Batch, SourceFile
from carryover.ground import storage
from carryover.ground.errors import WrongInput

# What pandas.read_csv takes as missing, so that the same file means the same here and there.
MISSING_WORDS = [
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
]
# Arrow reads up to 32 blocks ahead of the one it gives. A row may not be longer than a block.
CSV_BLOCK_BYTES = 2 << 20
JSON_ROWS = 16_384
JSON_LINE_BYTES = 64 << 20


class Wanted(NamedTuple):
    """Columns that are left out, and columns whose lists and structs become text."""

    without: frozenset[str]
    nested: frozenset[str]


def read(file: SourceFile, *, without: Collection[str] = (), nested: Collection[str] = ()) -> Iterator[Batch]:
    """Read a file from its start, a few megabytes at a time.

    Args:
        without: columns that are not wanted; Parquet does not even read them.
        nested: columns whose lists and structs are wanted, as their JSON text; of others they can't be read.

    Raises:
        WrongInput: a file that cannot be opened or understood; names the file and the row.
    """
    row = 0
    try:
        for batch in READERS[file.format](file, Wanted(frozenset(without), frozenset(nested))):
            yield batch
            row += batch.rows
    except (pa.ArrowException, zlib.error, gzip.BadGzipFile, EOFError, UnicodeError) as error:
        raise _unreadable(file, row, error) from error
    except OSError as error:
        # Arrow says "damaged file" by an OSError of its own, without the number that real trouble with a disk has.
        if error.errno is not None or type(error) is not OSError:
            raise
        raise _unreadable(file, row, error) from error


def _unreadable(file: SourceFile, row: int, error: BaseException) -> WrongInput:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "straddling" in text:
        longest = f"{CSV_BLOCK_BYTES >> 20} MiB (JSONL and Parquet may have longer ones)"
        text = f'a row is longer than {longest}, or a quote (") is never closed'
    named = re.search(r"Row #(\d+): ?", text)
    if named:
        # Arrow counts the header as a row.
        row, text = int(named[1]) - 2, text.replace(named[0], "")
    return WrongInput(f"{file.uri}: can't be read as {file.format} at row {row + 1}: {text[:300]}")


def _read_csv(file: SourceFile, wanted: Wanted) -> Iterator[Batch]:
    delimiter = "\t" if file.format == "tsv" else ","
    header = _csv_header(file, delimiter)
    names = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
    convert = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()),
        null_values=MISSING_WORDS,
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    parse = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    # One thread, so that errors name their row and no blocks pile up ahead of the reader.
    block = arrow_csv.ReadOptions(block_size=CSV_BLOCK_BYTES, use_threads=False)
    with file.open() as stream:
        quotes = _QuoteCount(stream)
        source = pa.PythonFile(quotes, mode="r")
        reader = arrow_csv.open_csv(source, read_options=block, parse_options=parse, convert_options=convert)
        if reader.schema.names != header:
            raise WrongInput(f"{file.uri}: its header can't be understood: {', '.join(reader.schema.names[:5])}")
        row, last = 1, None
        for batch in reader:
            last = batch if batch.num_rows else last
            columns = dict(zip(names, batch.columns, strict=True))
            kept = {name: columns[name] for name in names if name not in wanted.without}
            yield Batch(file.uri, row, batch.num_rows, tuple(names), kept)
            row += batch.num_rows
        if last is not None and quotes.odd and any("\n" in str(value[-1]) for value in last.columns):
            # Arrow ends an open quote where the file ends, and so would lose rows without a word.
            raise WrongInput(f"{file.uri}: can't be read as csv at row {row - 1}: its quote (\") is never closed")
        if row == 1:
            empty = pa.array([], pa.string())
            kept = {name: empty for name in names if name not in wanted.without}
            yield Batch(file.uri, 1, 0, tuple(names), kept)


class _QuoteCount:
    """A file that is read through, and tells whether its number of quotes was odd."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.odd = False
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.odd ^= data.count(b'"') % 2 == 1
        return data


def _csv_header(file: SourceFile, delimiter: str) -> list[str]:
    with file.open() as stream, io.TextIOWrapper(stream, "utf-8-sig", "replace", newline="") as text:
        try:
            header = next((record for record in csv.reader(_lines(file, text), delimiter=delimiter) if record), None)
        except csv.Error as error:
            raise WrongInput(f"{file.uri}: its header can't be understood: {error}") from error
    if header is None:
        raise WrongInput(f"{file.uri}: is empty; the first row must name the columns")
    names = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise WrongInput(f"{file.uri}: two columns are named '{twice[0]}'; names must differ")
    return header


def _lines(file: SourceFile, text: io.TextIOWrapper) -> Iterator[str]:
    """Yield lines; one that never ends would be in memory whole before anything could be said of it."""
    while line := text.readline(CSV_BLOCK_BYTES):
        if len(line) == CSV_BLOCK_BYTES:
            raise WrongInput(f"{file.uri}: its header is longer than {CSV_BLOCK_BYTES >> 20} MiB")
        yield line


def _read_parquet(file: SourceFile, wanted: Wanted) -> Iterator[Batch]:
    with file.open() as stream, pq.ParquetFile(pa.PythonFile(stream, mode="r"), buffer_size=1 << 20) as parquet:
        names = parquet.schema_arrow.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise WrongInput(f"{file.uri}: two columns are named '{twice[0]}'; names must differ")
        kept = [name for name in names if name not in wanted.without]
        row = 1
        for batch in parquet.iter_batches(_parquet_rows(parquet), columns=kept, use_threads=False):
            arrays = dict(zip(kept, batch.columns, strict=True))
            arrays |= {name: _json_text(arrays[name].to_pylist()) for name in wanted.nested & arrays.keys()}
            typed = {name: values.typed_array(array) for name, array in arrays.items()}
            columns = {name: array for name, (array, _) in typed.items()}
            kinds = {name: kinds for name, (_, kinds) in typed.items()}
            yield Batch(file.uri, row, batch.num_rows, tuple(names), columns, kinds)
            row += batch.num_rows
        if row == 1:
            nothing = {name: pa.nulls(0) for name in kept}
            yield Batch(file.uri, 1, 0, tuple(names), nothing, dict.fromkeys(kept, frozenset()))


def _parquet_rows(parquet: pq.ParquetFile) -> int:
    """Return how many rows make about one batch; a row's size is that of the group with the largest rows."""
    groups = [parquet.metadata.row_group(index) for index in range(parquet.metadata.num_row_groups)]
    largest = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows), default=1.0)
    return int(min(65_536, max(1, BATCH_BYTES / max(1.0, largest))))


def _read_jsonl(file: SourceFile, wanted: Wanted) -> Iterator[Batch]:
    held: list[dict[str, Any]] = []
    size, row = 0, 1
    # Keys in the order in which they first come, for the whole file: a batch may lack some.
    names: dict[str, None] = {}
    with file.open() as stream:
        while line := stream.readline(JSON_LINE_BYTES + 1):
            if len(line) > JSON_LINE_BYTES:
                raise WrongInput(f"{file.uri}: row {row} is longer than {JSON_LINE_BYTES >> 20} MiB; one object a line")
            if not line.strip():
                continue
            held.append(_json_row(file, row, line))
            names.update(dict.fromkeys(held[-1]))
            size += len(line)
            row += 1
            if size >= BATCH_BYTES or len(held) >= JSON_ROWS:
                yield _json_batch(file, row - len(held), held, tuple(names), wanted)
                size, held = 0, []
    if not row - 1:
        raise WrongInput(f"{file.uri}: there are no rows", trouble="too-few-rows")
    if held:
        yield _json_batch(file, row - len(held), held, tuple(names), wanted)


def _json_row(file: SourceFile, row: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.strip())
    except (ValueError, RecursionError) as error:
        raise WrongInput(f"{file.uri}: can't be read as jsonl at row {row}: {error}") from error
    if not isinstance(value, dict):
        raise WrongInput(
            f'{file.uri}: can\'t be read as jsonl at row {row}: one object a line, such as {{"text": ...}}'
        )
    return value


def _json_batch(
    file: SourceFile, row: int, held: list[dict[str, Any]], names: tuple[str, ...], wanted: Wanted
) -> Batch:
    found = {name: [values.get(name) for values in held] for name in names if name not in wanted.without}
    typed = {
        name: values.typed_array(_json_text(column)) if name in wanted.nested else _json_column(column)
        for name, column in found.items()
    }
    columns = {name: array for name, (array, _) in typed.items()}
    return Batch(file.uri, row, len(held), names, columns, {name: kinds for name, (_, kinds) in typed.items()})


def _json_column(column: list[Any]) -> tuple[pa.Array, frozenset[str]]:
    """Return a column's array and kinds; values of several kinds stand as text until the whole column is known."""
    found = {type(value) for value in column if value is not None}
    if found & {list, dict}:
        return pa.nulls(len(column)), frozenset({"nested"})
    if len(found) > 1:
        return _json_mixture(column)
    if found == {int} and any(value is not None and not -(2**63) <= value < 2**63 for value in column):
        return _json_mixture(column)
    return values.typed_array(pa.array(column))


def _json_text(column: list[Any]) -> pa.Array:
    """Return values as JSON text; text stays as it is."""
    texts = [one if one is None or isinstance(one, str) else json.dumps(one, default=str) for one in column]
    return pa.array(texts, pa.string())


def _json_mixture(column: list[Any]) -> tuple[pa.Array, frozenset[str]]:
    kinds: set[str] = set()
    texts: list[str | None] = [None] * len(column)
    for kind in (bool, int, float, str):
        places = [place for place, value in enumerate(column) if type(value) is kind]
        own = [column[place] for place in places]
        if kind is int and any(not -(2**63) <= value < 2**63 for value in own):
            kinds.add("digits")
            own = [str(value) for value in own]
        array, own_kinds = values.typed_array(pa.array(own))
        kinds |= own_kinds if own else set()
        for place, text in zip(places, values.as_text(array).to_pylist(), strict=True):
            texts[place] = text
    return pa.array(texts, pa.string()), frozenset(kinds)


def _read_images(file: SourceFile, wanted: Wanted) -> Iterator[Batch]:
    row = 1
    for columns in image_folder.batches(file.uri):
        known = image_folder.identity(columns)
        yield _pictures(file, row, columns, file.uri, wanted, known)
        row += len(columns[image_folder.IMAGE])


def _read_coco(file: SourceFile, wanted: Wanted) -> Iterator[Batch]:
    with file.open() as stream:
        found = coco.load(file.uri, stream)
    places = found.check()
    raise_all(file.uri, found.problems.words())
    if not found.names:
        raise WrongInput(f"{file.uri}: there are no images", trouble="too-few-rows")
    tags = pictures.tags_of(storage.split(file.uri)[1])
    root = pictures.find_root(file.uri, found.names, tags=tags, given=file.image_root)
    raise_all(file.uri, pictures.missing_words(root, found.names), "--image-root names another folder")
    notes = tuple(f"annotations have {name}, which is not read; only boxes are" for name in sorted(found.unread))
    row = 1
    for columns in found.rows(places):
        yield _pictures(file, row, columns, root, wanted, _names_only(columns), found.categories, notes)
        row += len(columns[coco.IMAGE])


def _read_voc(file: SourceFile, wanted: Wanted) -> Iterator[Batch]:
    found = voc.Voc(voc.files(file.uri))
    beside = voc.annotations_of(file.uri)
    root, row, names = "", 1, []
    for columns in found.rows():
        own = columns[voc.IMAGE].to_pylist()
        if own:
            root = root or pictures.find_root(beside, own, given=file.image_root)
            names += own
            yield _pictures(file, row, columns, root, wanted, _names_only(columns))
            row += len(own)
    gone = pictures.missing_words(root, names) if root else []
    raise_all(file.uri, [*found.problems.words(), *gone])


def _names_only(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Return what tells pictures apart when rows are split: their names; ids are given anew by every export."""
    return {**image_folder.identity(columns), coco.IMAGE_ID: pa.nulls(len(columns[coco.IMAGE]))}


def _pictures(
    file: SourceFile,
    row: int,
    columns: dict[str, pa.Array],
    root: str,
    wanted: Wanted,
    identity: dict[str, pa.Array],
    categories: Mapping[str, int | str] | None = None,
    notes: tuple[str, ...] = (),
) -> Batch:
    kept = {name: array for name, array in columns.items() if name not in wanted.without}
    told = {name: array for name, array in identity.items() if name in kept}
    # Names and ids are what their type says, whatever they look like.
    kinds = {name: frozenset({"int" if pa.types.is_integer(array.type) else "text"}) for name, array in kept.items()}
    return Batch(
        uri=file.uri,
        first_row=row,
        rows=len(columns[image_folder.IMAGE]),
        names=tuple(columns),
        columns=kept,
        known=kinds if file.annotated else {},
        folder=root,
        identity=told,
        categories=categories or {},
        notes=notes,
    )


READERS: dict[str, Callable[[SourceFile, Wanted], Iterator[Batch]]] = {
    "coco": _read_coco,
    "csv": _read_csv,
    "images": _read_images,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "tsv": _read_csv,
    "voc": _read_voc,
}
