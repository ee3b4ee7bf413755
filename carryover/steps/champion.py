"""Owns the step champion: which Model stands for a name now; that there is none yet is an answer, not an error."""

import time
from typing import Any

from carryover.carry.champion import champion as find_champion
from carryover.carry.champion import place_of
from carryover.ground import storage
from carryover.ground.console import say
from carryover.models.export import find_model
from carryover.steps.model_source import facts_of
from carryover.steps.results import resolve_store, write_result

NOTHING = {"model_uri": "", "digest": "", "dataset_uri": "", "dataset_digest": "", "problem_type": ""}


def champion(*, name: str, store: str = "", output: str = "", outputs_dir: str = "") -> dict[str, Any]:
    """Look up the champion of a name.

    Args:
        name: whose champion: a-z, 0-9 and '-'.
        store: URI of the store. "" means ./.carryover.
        output: folder for result.json, "" for none.
        outputs_dir: folder for one file per output, "" for none.

    Returns:
        model_uri, digest, dataset_uri, dataset_digest and problem_type, all "" where there is no champion;
        dataset_uris, a list of none or one; number of the record that made it champion or None; seconds.

    Raises:
        WrongInput: for a name that can't be one, and when the champion's files are gone.
        Damaged: when a record is not what was written.
    """
    began = time.monotonic()
    where = storage.open_store(resolve_store(store))
    found = find_champion(where, name)
    facts = facts_of(find_model(place_of(found.model, where)), store=where.uri) if found else NOTHING
    say(f"champion '{name}': {f'{found.model.digest}, by record {found.number}' if found else 'none yet'}")
    result = {
        "step": "champion",
        "name": name,
        **facts,
        "dataset_uris": [facts["dataset_uri"]] if facts["dataset_uri"] else [],
        "number": found.number if found else None,
        "seconds": round(time.monotonic() - began, 3),
    }
    return write_result(result, output, outputs_dir)
