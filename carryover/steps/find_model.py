"""Owns the step find-model: what a pipeline's word for a Model means now, so that all of its steps mean the same one.

"champion:stars" may be another Model an hour later, and "run:KEY" when that run is continued.
"""

import time
from typing import Any

from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.errors import WrongInput
from carryover.steps.model_source import facts_of, open_model
from carryover.steps.results import resolve_store, write_result


def find_model(*, model: str, store: str = "", output: str = "", outputs_dir: str = "") -> dict[str, Any]:
    """Look up a Model by any of its words.

    Args:
        model: URI of a Model's folder or model.json, a folder that holds its card, run:KEY or champion:NAME.
        store: URI of the store. "" means ./.carryover.
        output: folder for result.json, "" for none.
        outputs_dir: folder for one file per output, "" for none.

    Returns:
        model_uri, digest, dataset_uri and dataset_digest (of what it was trained on, "" where nothing was),
        problem_type; dataset_uris, a list of none or one; seconds.

    Raises:
        WrongInput: when there is no such Model.
    """
    began = time.monotonic()
    if not model:
        raise WrongInput("--model: empty; give a Model's URI, run:KEY or champion:NAME")
    where = storage.open_store(resolve_store(store))
    facts = facts_of(open_model(model, store=where.uri), store=where.uri)
    say(f"{model}: Model {facts['digest']} at {facts['model_uri']}")
    result = {
        "step": "find-model",
        **facts,
        "dataset_uris": [facts["dataset_uri"]] if facts["dataset_uri"] else [],
        "seconds": round(time.monotonic() - began, 3),
    }
    return write_result(result, output, outputs_dir)
