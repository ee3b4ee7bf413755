"""Several text columns as one sequence: what is trimmed, which separators and segments, what is missing."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from carryover.data.config import DataConfig, TextConfig
from carryover.data.order import mix
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models.hf_text import FAMILY, HFTextConfig
from carryover.models.text_ids import TextPreprocessor, trim
from carryover.train import recipe as recipes
from tests.models.encoders import SPECIAL, WORDS, save_encoder

PAD, _, CLS, SEP = range(4)


def ids(text: str) -> list[int]:
    return [[*SPECIAL, *WORDS].index(word) for word in text.split()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("bert"), "bert")


def schema(*names: str) -> Schema:
    columns = [Column(name, "text", "string", {}) for name in names]
    label = Column("y", "categorical", "int64", {})
    return Schema("y", "binary", (0, 1), (*columns, label))


def fitted(folder, *names: str, **keys) -> TextPreprocessor:
    config = HFTextConfig(checkpoint_name=str(folder), **keys)
    return FAMILY.preprocessor(config, schema(*names), DataConfig())


def run(preprocess: TextPreprocessor, *, training: bool = False, **columns) -> dict[str, np.ndarray]:
    table = pa.table(columns)
    return preprocess(table, training=training, keys=mix(0, 0, np.arange(table.num_rows)))


@pytest.mark.parametrize(
    ("lengths", "budget", "kept"),
    [
        ([3, 4], 10, [3, 4]),
        ([3, 10], 8, [3, 5]),
        ([10, 3], 8, [5, 3]),
        ([10, 10], 7, [4, 3]),
        ([1, 9, 9, 2], 12, [1, 5, 4, 2]),
        ([0, 5], 3, [0, 3]),
        ([5, 5, 5], 2, [1, 1, 0]),
    ],
)
def test_longest_columns_are_trimmed_first(lengths, budget, kept):
    assert trim(lengths, budget) == kept


def test_trim_never_wastes_budget():
    rng = np.random.default_rng(0)
    for _ in range(500):
        lengths = rng.integers(0, 30, rng.integers(1, 6)).tolist()
        budget = int(rng.integers(0, 60))
        kept = trim(lengths, budget)
        assert sum(kept) == min(sum(lengths), budget)
        assert all(0 <= short <= length for short, length in zip(kept, lengths, strict=True))
        line = max([k for k, n in zip(kept, lengths, strict=True) if k < n], default=None)
        # Who lost something stands at the water line; nobody stands more than one above it.
        assert line is None or all(k >= line - 1 for k, n in zip(kept, lengths, strict=True) if k < n)
        assert line is None or all(k <= line + 1 for k in kept)


def test_two_columns_with_separators_and_segments(folder):
    out = run(fitted(folder, "a", "b"), a=["good film", "bad"], b=["it was", "very very poor"])
    assert out["ids"].tolist() == [
        [CLS, *ids("good film"), SEP, *ids("it was"), SEP],
        [CLS, *ids("bad"), SEP, *ids("very very poor"), SEP],
    ]
    assert out["segments"].tolist() == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1]]
    assert out["mask"].min() == 1


def test_without_separators_only_the_end_has_one(folder):
    out = run(fitted(folder, "a", "b", insert_sep=False), a=["good film"], b=["it was"])
    assert out["ids"].tolist() == [[CLS, *ids("good film it was"), SEP]]
    assert out["segments"].tolist() == [[0, 0, 0, 1, 1, 1]]


def test_missing_text_is_empty_and_short_rows_are_padded(folder):
    out = run(fitted(folder, "a", "b"), a=["good", None], b=[None, None])
    assert out["ids"].tolist() == [[CLS, *ids("good"), SEP, SEP], [CLS, SEP, SEP, PAD]]
    assert out["mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_rows_never_grow_longer_than_asked_or_than_the_encoder_takes(folder):
    long = "good " * 500
    assert run(fitted(folder, "a", "b", max_text_len=11), a=[long], b=["bad film"])["ids"].tolist() == [
        [CLS, *ids("good " * 6), SEP, *ids("bad film"), SEP]
    ]
    # The encoder has 40 positions; its tokenizer's own truncation to 6 plays no part.
    for asked in (0, 512):
        assert run(fitted(folder, "a", max_text_len=asked), a=[long])["ids"].shape == (1, 40)


def test_segments_cycle_within_what_is_asked(folder):
    out = run(fitted(folder, "a", "b", "c"), a=["good"], b=["bad"], c=["film"])
    assert out["segments"].tolist() == [[0, 0, 0, 1, 1, 0, 0]]
    assert run(fitted(folder, "a", "b", text_segment_num=1), a=["good"], b=["bad"])["segments"].max() == 0


def test_too_small_a_length_is_refused(folder):
    with pytest.raises(WrongInput, match=r"max_text_len: 4 .* must be at least 5"):
        fitted(folder, "a", "b", max_text_len=4)


def test_numbers_read_as_text_and_no_rows(folder):
    out = run(fitted(folder, "a"), a=[1, 2])
    assert out["ids"].shape == (2, 3)
    assert run(fitted(folder, "a"), a=pa.array([], pa.string()))["ids"].shape == (0, 1)


def test_a_column_that_is_not_there_is_named(folder):
    with pytest.raises(WrongInput, match="columns missing: b"):
        run(fitted(folder, "a", "b"), a=["good"])


def test_files_give_the_same_preprocessor_again(folder):
    first = fitted(folder, "a", "b")
    files = first.files()
    assert not any(str(folder).encode() in data for data in files.values())
    again = FAMILY.restore(HFTextConfig(checkpoint_name="nowhere"), files)
    rows = {"a": ["good film was very unknown"], "b": [None]}
    for name, array in run(first, **rows).items():
        assert (run(again, **rows)[name] == array).all()
    assert again.files() == files


def test_a_pair_is_two_sequences_of_their_own(folder):
    pair = fitted(folder, "a", "b", pair_mode="siamese", max_text_len=5)
    out = run(pair, a=["good film", None], b=["it was very very poor", "bad"])
    assert out["ids"].tolist() == [
        [[CLS, *ids("good film"), SEP, PAD], [CLS, *ids("it was very"), SEP]],
        [[CLS, SEP, PAD, PAD, PAD], [CLS, *ids("bad"), SEP, PAD, PAD]],
    ]
    assert out["mask"].sum(axis=2).tolist() == [[4, 5], [2, 3]]
    assert not out["segments"].any()
    assert run(pair, a=pa.array([], pa.string()), b=pa.array([], pa.string()))["ids"].shape == (0, 2, 1)
    again = FAMILY.restore(HFTextConfig(), pair.files())
    assert (run(again, a=["good"], b=["bad"])["ids"] == run(pair, a=["good"], b=["bad"])["ids"]).all()


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_a_pair_of_other_than_two_columns_is_refused(folder, names):
    with pytest.raises(WrongInput, match=rf"siamese compares two text columns; there are {len(names)} \(a"):
        fitted(folder, *names, pair_mode="siamese")


def test_a_long_column_loses_its_end_or_in_training_is_cut_anywhere(folder):
    words = "one two three four five six"
    chunks = fitted(folder, "a", "b", stochastic_chunk=True, max_text_len=7, text_trivial_aug_maxscale=0.0)
    rows: Any = {"a": [words] * 64, "b": ["good"] * 64}
    kept = run(chunks, training=True, **rows)["ids"]
    stretches = {tuple(row[1:4]) for row in kept.tolist()}
    assert stretches == {tuple(ids(words)[first : first + 3]) for first in range(4)}
    assert all(row[4:] == [SEP, *ids("good"), SEP] for row in kept.tolist())
    # AutoMM cuts anywhere at inference too, so that one row has several answers.
    assert {tuple(row[1:4]) for row in run(chunks, **rows)["ids"].tolist()} == {tuple(ids("one two three"))}
    pair = fitted(
        folder, "a", "b", stochastic_chunk=True, max_text_len=5, text_trivial_aug_maxscale=0.0, pair_mode="siamese"
    )
    assert {tuple(row[0][1:4]) for row in run(pair, training=True, **rows)["ids"].tolist()} == stretches


def test_training_augments_and_inference_does_not(folder):
    preprocess = fitted(folder, "a", text_trivial_aug_maxscale=0.5, text_aug_detect_length=3)
    rows: Any = {"a": ["good film it was not bad"] * 64}
    again = FAMILY.restore(HFTextConfig(), preprocess.files())
    assert again == preprocess
    drawn = run(again, training=True, **rows)["ids"]
    assert len({tuple(row) for row in drawn.tolist()}) > 10
    assert (drawn == run(preprocess, training=True, **rows)["ids"]).all()
    assert len({tuple(row) for row in run(again, **rows)["ids"].tolist()}) == 1


def test_text_is_normalized_as_in_training_wherever_the_model_goes(folder):
    config = HFTextConfig(checkpoint_name=str(folder))
    plain = FAMILY.preprocessor(config, schema("a"), DataConfig())
    mended = FAMILY.preprocessor(config, schema("a"), DataConfig(text=TextConfig(normalize_text=True)))
    unknown = SPECIAL.index("[UNK]")
    assert (run(plain, a=["b\u00e4d"])["ids"] == [[CLS, unknown, SEP]]).all()
    for preprocess in (mended, FAMILY.restore(config, mended.files())):
        assert run(preprocess, a=["b\u00e4d", None])["ids"].tolist() == [[CLS, *ids("bad"), SEP], [CLS, SEP, PAD]]


def test_a_model_from_before_these_keys_still_opens(folder):
    files = fitted(folder, "a", text_trivial_aug_maxscale=0.0).files()
    old = {key: value for key, value in json.loads(files["text.json"]).items() if key not in ("treatment", "siamese")}
    again = FAMILY.restore(HFTextConfig(), {**files, "text.json": json.dumps(old).encode()})
    assert again.files() == files


@pytest.mark.parametrize(
    ("name", "words"), [("use_fast", "fast tokenizers only"), ("low_cpu_mem_usage", "without a second copy")]
)
def test_keys_of_automm_without_a_choice_say_so(name, words):
    with pytest.raises(WrongInput, match=rf"model.hf_text.{name}: is always so: .*{words}.*; leave it out"):
        recipes.make({f"model.hf_text.{name}": True})
