"""Owns what every step leaves behind: result.json, one small file per output, and where results go by default.

DIR/result.json     everything a step says of itself, plain JSON
OUTPUTS/<name>      one scalar output a file, as Argo's valueFrom.path wants it
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.ground.storage import Store

DEFAULT_STORE = ".carryover"


def resolve_store(store: str) -> str:
    """Return the canonical URI of the store; an empty one is ./.carryover, and is said.

    Raises:
        WrongInput: in a cluster, when it is not given or is a path of the pod, which ends with the pod.
    """
    if in_cluster():
        if not store:
            raise WrongInput("store: missing; in a cluster it must be given, e.g. s3://bucket/carryover")
        if is_of_machine(store):
            raise WrongInput(
                f"store: '{store}' is inside this pod and ends with it; give an object store, e.g. s3://bucket/carryover"
            )
    uri = storage.normal(store or DEFAULT_STORE)
    if storage.scheme_of(uri) == "file" and not _is_folder(uri):
        raise WrongInput(f"store {uri}: is no folder; give a folder, or another place", trouble="path-refused")
    if not store:
        say(f"store: {uri} (default; --store URI for another)")
    return uri


def _is_folder(path: str) -> bool:
    """Tell whether a path is a folder, or can become one."""
    there = next(one for one in (Path(path), *Path(path).parents) if os.path.lexists(one))
    return there.is_dir()


def is_of_machine(uri: str) -> bool:
    """Tell whether a place is this machine's own disk or memory, which no other machine can be sure to see."""
    return storage.scheme_of(uri) in ("file", "memory")


def probe(store: Store) -> None:
    """Write to a store that a run is to live in, and see that it settles races between two writers.

    Raises:
        WrongInput: when it can't be written, and when it can't promise what a run rests on.
    """
    if not store.probe():
        raise WrongInput(
            f"store {store.uri}: ignores conditional writes (If-None-Match), so two attempts of one run could write "
            "over each other; use a local folder, or an object store that honours them, such as Amazon S3 or Ceph",
            trouble="store-refuses-conditions",
        )


def plain(value: Any) -> Any:
    """Return a value as strict JSON has it: numbers that JSON lacks become null, tuples become lists."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_result(result: Mapping[str, Any], output: str, outputs_dir: str) -> dict[str, Any]:
    """Write result.json to `output`, one file per scalar to `outputs_dir` (either may be ""); return the result."""
    values = {name: plain(value) for name, value in result.items()}
    if output:
        storage.open_store(output).write("result.json", json.dumps(values, indent=2).encode() + b"\n")
    if outputs_dir:
        folder = Path(outputs_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            if value is None or isinstance(value, (str, int, float, bool)):
                text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
                (folder / name).write_text(text)
    return values


def in_cluster() -> bool:
    """Tell whether this process runs in a Kubernetes pod."""
    return "KUBERNETES_SERVICE_HOST" in os.environ
