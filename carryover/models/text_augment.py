"""Owns what happens to a text in training alone: one small change, chosen as TrivialAugment chooses.

Each text of enough words gets one operation, all of them equally probable, the text itself among them; how many words
it touches is drawn too (Müller and Hutter, "TrivialAugment", ICCV 2021, which AutoMM extends to text). All is a
function of the row's key: another number of workers or ranks, or a resume, changes nothing. Words are what spaces part.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carryover.data.order import mix
from carryover.ground.config import check, nearest
from carryover.ground.errors import WrongInput

OPERATIONS = ("random_swap", "random_delete", "insert_punc")
SYNONYMS = ("syn_replacement", "synonym_replacement")
PUNCTUATION = ".,!?;:"
_SPELLING = re.compile(r"(\w+)\s*(?:\(\s*([^(),]*?)\s*,?\s*\))?")
_WORD = re.compile(r"\s*\S+")
# What a random number is for; beside the row's key and the column it keeps draws apart.
CHUNK, _OPERATION, _SCALE, _PLACE, _MARK = range(5)


def draws(key: int | np.ndarray, column: int, purpose: int, index: int | np.ndarray = 0) -> np.ndarray:
    """Return float64 in [0, 1), a function of its arguments; they broadcast as in `order.mix`."""
    return (mix(key, column, purpose, index) >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Operation:
    """One change: its name, and the share of words it touches; None to draw that anew for each text."""

    name: str
    share: float | None = None


@dataclass(frozen=True)
class TextAugmentation:
    """What may happen to a text; `operations` is () where nothing may.

    Attributes:
        max_scale: upper bound of the share of words that is drawn.
        detect_length: texts of fewer words are left alone.
    """

    operations: tuple[Operation, ...]
    max_scale: float
    detect_length: int

    def __call__(self, texts: Sequence[str], keys: np.ndarray, column: int) -> list[str]:
        """Return the texts of one column, changed; keys are uint64, one a text."""
        if not self.operations:
            return list(texts)
        chosen = (draws(keys, column, _OPERATION) * (len(self.operations) + 1)).astype(int)
        shares = draws(keys, column, _SCALE) * self.max_scale
        return [
            self._changed(text, int(number), float(share), key, column)
            for text, number, share, key in zip(texts, chosen, shares, keys, strict=True)
        ]

    def _changed(self, text: str, number: int, share: float, key: np.ndarray, column: int) -> str:
        words = _WORD.findall(text)
        if number == len(self.operations) or len(words) < max(2, self.detect_length):
            return text
        operation = self.operations[number]
        share = share if operation.share is None else operation.share
        count = min(max(1, int(share * len(words))), len(words) - 1) if share else 0
        order = np.argsort(draws(int(key), column, _PLACE, np.arange(len(words))), kind="stable")
        places = sorted(order[:count].tolist())
        if operation.name == "random_delete":
            return "".join(word for place, word in enumerate(words) if place not in set(places))
        if operation.name == "random_swap":
            return "".join(_swapped(words, places))
        marks = (draws(int(key), column, _MARK, np.arange(len(words))) * len(PUNCTUATION)).astype(int)
        return "".join(_marked(word, PUNCTUATION[marks[i]]) if i in places else word for i, word in enumerate(words))


def augmentation(types: Sequence[str] | None, *, max_scale: float, detect_length: int) -> TextAugmentation:
    """Return the augmentation that the recipe asks for; without types all operations there are, 0 for none.

    Raises:
        WrongInput: for an operation that is not known or needs a number and has none.
    """
    if types is None:
        operations = tuple(Operation(name) for name in OPERATIONS) if max_scale else ()
        return TextAugmentation(operations, max_scale, detect_length)
    operations = tuple(_parsed(text) for text in types)
    for operation in operations:
        if operation.share is None and not max_scale:
            raise WrongInput(
                f"text_train_augment_types: '{operation.name}' has no share of words and text_trivial_aug_maxscale is "
                f"0, so nothing would happen; write '{operation.name}(0.1)', or leave the list out"
            )
    return TextAugmentation(operations, max_scale, detect_length)


def _parsed(text: str) -> Operation:
    where, found = "text_train_augment_types", _SPELLING.fullmatch(text.strip())
    name = found[1] if found else text
    if name in SYNONYMS:
        raise WrongInput(
            f"{where}: '{name}' needs a dictionary of synonyms, which would have to be downloaded; leave it out or "
            f"use {', '.join(OPERATIONS)}"
        )
    if found is None or name not in OPERATIONS:
        near = nearest(name, OPERATIONS)
        meant = f"; did you mean '{near}'?" if near else "."
        raise WrongInput(f"{where}: '{text}' is not possible{meant} It must be one of {', '.join(OPERATIONS)}")
    if not found[2]:
        return Operation(name)
    try:
        share = float(found[2])
    except ValueError:
        share = -1.0
    check(0 < share <= 1, where, text, f"such as '{name}(0.1)', a share of words above 0 and up to 1")
    return Operation(name, share)


def _swapped(words: Sequence[str], places: Sequence[int]) -> list[str]:
    """Exchange each named word with its neighbour; the blanks stay where they are."""
    blanks = [word[: len(word) - len(word.lstrip())] for word in words]
    bare = [word.lstrip() for word in words]
    for place in places:
        other = place + 1 if place + 1 < len(bare) else place - 1
        bare[place], bare[other] = bare[other], bare[place]
    return [blank + word for blank, word in zip(blanks, bare, strict=True)]


def _marked(word: str, mark: str) -> str:
    bare = word.lstrip()
    return f"{word[: len(word) - len(bare)]}{mark} {bare}"
