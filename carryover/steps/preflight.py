"""Owns the step `preflight`: what can be known to be wrong before anything costs money is said here, in seconds.

It runs on a CPU, without torch, and is never retried: running it again can't help.
"""

import time
from collections.abc import Sequence
from typing import Any

from carryover.data.readers import read
from carryover.data.schema import missing_column
from carryover.data.sources import SourceFile, find_all, implied
from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.steps.results import probe, resolve_store, write_result
from carryover.steps.teacher import named_teacher
from carryover.train.presets import words_of
from carryover.train.recipe import given, make


def preflight(
    *,
    store: str = "",
    recipe: str = "",
    overrides: Sequence[str] = (),
    source: Sequence[str] = (),
    validation_source: Sequence[str] = (),
    test_source: Sequence[str] = (),
    label: str = "",
    output: str = "",
    outputs_dir: str = "",
) -> dict[str, Any]:
    """Check a run's inputs without reading the data: recipe, store, credentials, and that sources have the label.

    Args:
        store: the store's URI; required in a cluster, where a path of the pod is refused. "" means ./.carryover.
        recipe: path of a YAML file, or the YAML text itself.
        overrides: "key=value" each; they win over the recipe.
        source: URIs of the data; each may be a glob pattern or a folder. None: the data is not looked at.
        validation_source: as `source`.
        test_source: as `source`.
        label: column that is to be predicted; required where there is a source, but for COCO and VOC.
        output: folder for result.json, "" for none.
        outputs_dir: folder for one file per output, "" for none.

    Raises:
        WrongInput: for the first thing that is wrong.
    """
    began = time.monotonic()
    keys = given(recipe, overrides)
    make(keys)
    for line in words_of(keys):
        say(line)
    say(f"recipe: {len(keys) or 'no'} key{'' if len(keys) == 1 else 's'} given, all is known")
    where = _check_store(store)
    sources = [*source, *validation_source, *test_source]
    found = find_all({"source": source, "validation": validation_source, "test": test_source})
    files = [file for role in found.values() for file in role]
    label, _ = implied(files, label, "")
    if sources and not label:
        raise WrongInput("label: missing; name the column that is to be predicted")
    for file in files:
        _check_label(file, label)
    if files:
        say(f"sources: {len(files)} file{'s' if len(files) > 1 else ''}, column '{label}' is there")
    probe(where)
    named_teacher(keys, store=where.uri)
    say(f"store: {where.uri} can be written, and settles races between two writers")
    result = {
        "step": "preflight",
        "store": where.uri,
        "conditional_writes": True,
        "files": len(files),
        "seconds": round(time.monotonic() - began, 3),
    }
    return write_result(result, output, outputs_dir)


def _check_store(store: str) -> storage.Store:
    """Return the store, once it is sure that every step of the run will find it again."""
    where = storage.open_store(resolve_store(store))
    if where.scheme == "s3":
        _check_credentials(where)
    return where


def _check_credentials(store: storage.Store) -> None:
    """Raise WrongInput when nothing on this machine says who we are to an S3 server; no server is asked."""
    from botocore.session import get_session

    if get_session().get_credentials() is None:
        raise WrongInput(
            f"store {store.uri}: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
            "(in a cluster: by a secret), or give the pod a service account that may write there",
            trouble="no-credentials",
        )


def _check_label(file: SourceFile, label: str) -> None:
    """Raise WrongInput when a file's head (text) or foot (Parquet) can't be read, or shows that it lacks the label."""
    columns = _parquet_columns(file) if file.format == "parquet" else list(next(read(file)).names)
    # The first rows of JSON lines may leave out a column that others have: they prove nothing.
    if label not in columns and file.format != "jsonl":
        raise WrongInput(f"{file.uri}: label: {missing_column(label, columns)}", trouble="wrong-column")


def _parquet_columns(file: SourceFile) -> list[str]:
    """Return the column names from a Parquet file's foot; its first rows may be a gigabyte."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with file.open() as opened:
            return pq.read_schema(opened).names
    except (pa.ArrowException, OSError) as error:
        raise WrongInput(
            f"{file.uri}: can't be read: {storage.first_line(error)}", trouble="unreadable-data"
        ) from error
