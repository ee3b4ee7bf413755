"""Owns the step rollback: an earlier champion is the champion again."""

from typing import Any

from carryover.carry import champion as champions
from carryover.checkpoint.owners import local_owner
from carryover.ground import storage
from carryover.steps.results import probe, resolve_store, write_result


def rollback(
    *,
    name: str,
    to: str = "",
    store: str = "",
    reason: str = "",
    owner: str = "",
    output: str = "",
    outputs_dir: str = "",
) -> dict[str, Any]:
    """Go back to an earlier champion of a name; the one of now is not promoted again unless it is forced.

    Args:
        name: whose champion: a-z, 0-9 and '-'.
        to: an earlier champion's digest (or its beginning), or the number of a record that made one.
            "": the one before.
        store: URI of the store, "" for ./.carryover.
        reason: words for the record.
        owner: who decides. "": this process.

    Returns:
        champion_uri and champion_digest, number of the new record, withdrawn: digest of the champion until now.

    Raises:
        WrongInput: when there is nothing to go back to.
        Superseded: when another one became champion meanwhile.
    """
    where = storage.open_store(resolve_store(store))
    if champions.champion(where, name) is not None:
        probe(where)
    decision = champions.rollback(where, name, to=to, reason=reason, who=owner or local_owner())
    result = {
        "step": "rollback",
        "name": name,
        "champion_uri": champions.place_of(decision.model, where),
        "champion_digest": decision.model.digest,
        "number": decision.number,
        "withdrawn": decision.against,
    }
    return write_result(result, output, outputs_dir)
