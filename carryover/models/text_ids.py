"""Owns how several text columns of a row become one sequence of token ids of bounded length.

    [CLS] column one [SEP] column two [SEP]      insert_sep    (segment 0 0 0 0 1 1 1)
    [CLS] column one column two [SEP]            otherwise
    [CLS] column one [SEP]  [CLS] column two [SEP]   siamese: the encoder sees one column at a time

A row over its budget loses tokens from the end of its longest columns, until all fits (AutoMM's trimming). Ids are put
together from each column's own ids, so nothing depends on how a tokenizer joins or truncates pairs.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from carryover.ground.digests import canonical
from carryover.models import columns
from carryover.models.text_augment import CHUNK, Operation, TextAugmentation, draws
from carryover.models.text_cleaning import clean

TOKENIZER = "tokenizer/tokenizer.json"


@dataclass(frozen=True)
class Layout:
    """How a sequence is built; all that depends on the tokenizer and the encoder is resolved here.

    Attributes:
        columns: text columns in reading order.
        start: id in front; None for a tokenizer without one.
        learned_start: whether position 0 is kept for a vector that the network learns (no start id, pooling cls);
            its id is then `padding` and its mask 1.
        separator, padding: ids.
        max_length: most ids a row, all of the above included.
        segments: number of segment ids that the columns take in turn; 0 when the encoder has none.
        siamese: whether each column is a sequence of its own.
        cosine: of a siamese regression, (slope, offset) of the scaled label over the cosine, as training starts.
    """

    columns: tuple[str, ...]
    start: int | None
    learned_start: bool
    separator: int
    padding: int
    max_length: int
    insert_sep: bool
    segments: int
    siamese: bool = False
    cosine: tuple[float, float] | None = None

    @property
    def budget(self) -> int:
        """Return how many ids of text fit into one sequence."""
        front = int(self.start is not None or self.learned_start)
        return self.max_length - front - (len(self.columns) if self.insert_sep and not self.siamese else 1)

    @property
    def least(self) -> int:
        """Return how many ids of text should fit: one for each column of a sequence."""
        return 1 if self.siamese else len(self.columns)


@dataclass(frozen=True)
class Treatment:
    """What happens to texts before they are ids.

    Attributes:
        normalize: whether text is mended and written in ASCII, in training and at inference.
        stochastic_chunk: whether training takes a random stretch of a column that is too long instead of its start.
        augmentation: what training changes; None for nothing.
    """

    normalize: bool = False
    stochastic_chunk: bool = False
    augmentation: TextAugmentation | None = None


def trim(lengths: Sequence[int], budget: int) -> list[int]:
    """Return how many items of each list to keep so that their sum is at most `budget`: the longest lose first.

    Lists shorter than the common water line keep all; of those above it, the first ones get what does not divide.
    """
    if sum(lengths) <= budget:
        return list(lengths)
    line, left = 0, budget
    for place, length in enumerate(sorted(lengths)):
        line = left // (len(lengths) - place)
        if length > line:
            break
        left -= length
    kept = [min(length, line) for length in lengths]
    spare = budget - sum(kept)
    for index, length in enumerate(lengths):
        if spare and length > line:
            kept[index] += 1
            spare -= 1
    return kept


@dataclass(frozen=True)
class TextPreprocessor:
    """Gives "ids", "mask" and, where the encoder has them, "segments": int64[B, L], L the longest of the batch.

    Of a siamese layout they are int64[B, columns, L].

    Attributes:
        encoder: the encoder's config.json as a mapping.
        tokenizer_files: relative name -> text, as transformers writes them.
    """

    layout: Layout
    encoder: Mapping[str, Any]
    tokenizer_files: Mapping[str, bytes] = field(repr=False)
    treatment: Treatment = Treatment()

    @property
    def padded(self) -> tuple[str, ...]:
        """Return the columns whose longest text in a batch says how wide it is."""
        return self.layout.columns

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer_files[TOKENIZER].decode())
        # Many published tokenizers carry a truncation and a padding of their own; both are ours to decide.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        columns.require(rows, self.layout.columns)
        texts = [self._text(rows, column, keys if training else None) for column in range(len(self.layout.columns))]
        encoded = self._tokenizer.encode_batch_fast(list(itertools.chain(*texts)), add_special_tokens=False)
        count = rows.num_rows
        parts = [[encoded[column * count + row].ids for column in range(len(texts))] for row in range(count)]
        starts = np.zeros((count, len(texts)))
        if training and self.treatment.stochastic_chunk:
            starts = np.stack([draws(keys, column, CHUNK) for column in range(len(texts))], axis=1)
        if not self.layout.siamese:
            return self._padded([self._sequence(*row) for row in zip(parts, starts, strict=True)])
        singles = zip(itertools.chain(*parts), starts.flat, strict=True)
        apart = self._padded([self._sequence([part], [start]) for part, start in singles])
        return {name: array.reshape(count, len(texts), array.shape[1]) for name, array in apart.items()}

    def _text(self, rows: pa.Table, column: int, keys: np.ndarray | None) -> list[str]:
        """Return one column's texts as the tokenizer gets them; keys are None outside of training."""
        texts = columns.texts(rows, self.layout.columns[column])
        full = [text or "" for text in (clean(texts) if self.treatment.normalize else texts)]
        change = self.treatment.augmentation
        return full if change is None or keys is None else change(full, keys, column)

    def _sequence(self, parts: Sequence[Sequence[int]], starts: Iterable[float]) -> tuple[list[int], list[int]]:
        """Return the ids and segments of one sequence; a start in [0, 1) says which stretch of a long part is kept."""
        layout = self.layout
        kept = trim([len(part) for part in parts], layout.budget)
        ids = [layout.padding] if layout.learned_start else [] if layout.start is None else [layout.start]
        segments = [0] * len(ids)
        segment = 0
        for column, (part, length, start) in enumerate(zip(parts, kept, starts, strict=True)):
            segment = column % max(1, layout.segments)
            first = int(start * (len(part) - length + 1))
            ids += part[first : first + length]
            if layout.insert_sep:
                ids.append(layout.separator)
            segments += [segment] * (len(ids) - len(segments))
        if not layout.insert_sep:
            ids.append(layout.separator)
            segments.append(segment)
        return ids, segments

    def _padded(self, built: Sequence[tuple[list[int], list[int]]]) -> dict[str, np.ndarray]:
        longest = max((len(ids) for ids, _ in built), default=1)
        shape = (len(built), longest)
        arrays = {"ids": np.full(shape, self.layout.padding, dtype=np.int64), "mask": np.zeros(shape, dtype=np.int64)}
        if self.layout.segments:
            arrays["segments"] = np.zeros(shape, dtype=np.int64)
        for row, (ids, segments) in enumerate(built):
            arrays["ids"][row, : len(ids)] = ids
            arrays["mask"][row, : len(ids)] = 1
            if self.layout.segments:
                arrays["segments"][row, : len(ids)] = segments
        return arrays

    def files(self) -> dict[str, bytes]:
        text = {**asdict(self.layout), "treatment": asdict(self.treatment)}
        own = {"text.json": canonical(text), "config.json": canonical(dict(self.encoder))}
        return {**own, **self.tokenizer_files}


def restore(files: Mapping[str, bytes]) -> TextPreprocessor:
    """Return the preprocessor that wrote `files`."""
    stored = json.loads(files["text.json"])
    treatment = _treatment(stored.pop("treatment", {}))
    cosine = stored.get("cosine")
    layout = Layout(**{**stored, "columns": tuple(stored["columns"]), "cosine": cosine and tuple(cosine)})
    tokenizer = {name: data for name, data in files.items() if name.startswith("tokenizer/")}
    return TextPreprocessor(layout, json.loads(files["config.json"]), tokenizer, treatment)


def _treatment(stored: Mapping[str, Any]) -> Treatment:
    change = stored.get("augmentation")
    if change is not None:
        operations = tuple(Operation(**operation) for operation in change["operations"])
        change = TextAugmentation(**{**change, "operations": operations})
    return Treatment(**{**stored, "augmentation": change})
