"""The demo's count: it must find what was seen twice or never, and count only steps that survived."""

import json

import pyarrow.parquet as pq
import yaml

from carryover.train.recipe import given, make
from examples.demo import __main__ as demo
from examples.demo import history


def write(home, kind, number, **body):
    (home / "log").mkdir(parents=True, exist_ok=True)
    (home / "log" / f"{number:010d}.json").write_text(json.dumps({"kind": kind, "number": number, **body}))


def samples(home, attempt, first, last, rows):
    """The file of one commit: steps first..last, each with the given rows of its epoch."""
    (home / "samples").mkdir(exist_ok=True)
    entries = [[step, *rows[step]] for step in range(first + 1, last + 1)]
    content = {"from_step": first, "to_step": last, "epoch_rows": entries}
    (home / "samples" / f"{last:010d}-{attempt:010d}-0.json").write_text(json.dumps(content))


# Four rows, batches of two, two epochs.
ROWS = {1: (0, [2, 0]), 2: (0, [1, 3]), 3: (1, [3, 2]), 4: (1, [0, 1])}


def test_a_step_done_again_counts_once(tmp_path):
    write(tmp_path, "claim", 0, attempt=0, resumed_from=None)
    write(tmp_path, "commit", 1, attempt=0, step=1)
    samples(tmp_path, 0, 0, 1, ROWS)
    # Killed between the samples file and the commit's record: this one never became history.
    samples(tmp_path, 0, 1, 2, {2: (0, [9, 9])})
    write(tmp_path, "claim", 2, attempt=1, resumed_from=1)
    write(tmp_path, "commit", 3, attempt=1, step=3)
    samples(tmp_path, 1, 1, 3, ROWS)
    write(tmp_path, "commit", 4, attempt=1, step=4)
    samples(tmp_path, 1, 3, 4, ROWS)
    count = history.count_samples(tmp_path, rows=4, epochs=2)
    assert (count.seen, count.twice, count.never, count.files) == (8, 0, 0, 3)
    assert count.exactly_once
    assert demo.resumed_from(tmp_path) == 1


def test_rows_seen_twice_or_never_are_found(tmp_path):
    write(tmp_path, "commit", 1, attempt=0, step=4)
    samples(tmp_path, 0, 0, 4, {**ROWS, 2: (0, [1, 2])})
    count = history.count_samples(tmp_path, rows=4, epochs=2)
    assert (count.seen, count.twice, count.never) == (8, 1, 1)
    assert not count.exactly_once


def test_an_epoch_that_is_missing_is_no_success(tmp_path):
    write(tmp_path, "commit", 1, attempt=0, step=2)
    samples(tmp_path, 0, 0, 2, ROWS)
    assert not history.count_samples(tmp_path, rows=4, epochs=2).exactly_once


def test_the_recipe_and_the_data_are_what_they_say():
    text = (demo.REVIEWS / "recipe.yaml").read_text()
    made = make(given(text))
    assert made.env.batch_size == yaml.safe_load(text)["env"]["batch_size"]
    table = pq.read_table(demo.REVIEWS / "reviews.parquet")
    assert table.num_rows == 3000
    assert table.column_names == ["sentence", "label", "domain"]
    assert "CC BY 4.0" in (demo.REVIEWS / "NOTICE").read_text()
