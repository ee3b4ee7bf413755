"""Owns the step promote: a Model becomes the champion of a name, or is remembered as one that was not good enough.

    accepted, the champion is still the one measured against    promoted
    accepted, another run promoted meanwhile                    kept; nothing is remembered against the Model
    accepted, but rejected or rolled back from before           kept
    rejected                                                    kept, and remembered
    it is the champion already                                  kept

A pipeline hands a verdict over, and "kept" is then an outcome like another. A person gives an order, and an order that
can't be carried out is an error.
"""

import time
from dataclasses import dataclass
from typing import Any

from carryover.carry import champion as champions
from carryover.carry.decision import Contender
from carryover.checkpoint.owners import local_owner
from carryover.ground import storage
from carryover.ground.console import say
from carryover.ground.errors import Superseded
from carryover.ground.storage import Store
from carryover.models.card import MODELS
from carryover.models.export import Found
from carryover.steps.model_source import kept, open_model
from carryover.steps.results import probe, resolve_store, write_result

ALREADY = "kept; the Model is the champion already"


def promote(
    *,
    name: str,
    model: str,
    store: str = "",
    accepted: bool | None = None,
    against: str | None = None,
    reason: str = "",
    force: bool = False,
    owner: str = "",
    output: str = "",
    outputs_dir: str = "",
) -> dict[str, Any]:
    """Make a Model the champion of a name, if the verdict on it is good and nobody was faster.

    Args:
        name: whose champion: a-z, 0-9 and '-'.
        model: URI of a Model's folder or model.json, a folder that holds its card, run:KEY or champion:NAME.
        store: URI of the store, "" for ./.carryover. A Model of another store is copied into it.
        accepted: the verdict of a gate; None: a person's order.
        against: digest of the champion that the Model was measured against, "" for none; None: whoever it is now.
        reason: words for the record.
        force: also where the Model was rejected or rolled back from.
        owner: who decides (a workflow's id), so that a retry gives the same answer. "": this process,
            which may decide the same twice.

    Returns:
        promoted, reason (why, or why not), champion_uri and champion_digest (the champion now, "" for none),
        model_digest, number of the record that made the champion, None where there is none; seconds.

    Raises:
        Superseded: without a verdict, when the champion is another than `against`.
        WrongInput: for a Model that is not there, a name that can't be one, or a store that does not settle races; and,
            without a verdict, for a Model that was rejected or rolled back from, unless `force` is given.
    """
    began = time.monotonic()
    where = storage.open_store(resolve_store(store))
    # A name that can't be one is said before anything is opened.
    before = champions.history(where, name)
    found = open_model(model, store=where.uri)
    probe(where)
    expected = before.digest if against is None else against
    ours = Verdict(found, expected, reason, owner)
    if accepted is False:
        promoted, words = False, _reject(where, name, ours)
    else:
        promoted, words = _promote(where, name, ours, force=force, obey=accepted is None)
    now = champions.champion(where, name)
    say(f"champion '{name}': {words}")
    result = {
        "step": "promote",
        "name": name,
        "promoted": promoted,
        "reason": words,
        "model_digest": found.card.digest,
        "champion_uri": champions.place_of(now.model, where) if now else "",
        "champion_digest": now.model.digest if now else "",
        "number": now.number if now else None,
        "seconds": round(time.monotonic() - began, 3),
    }
    return write_result(result, output, outputs_dir)


@dataclass(frozen=True)
class Verdict:
    """A Model, the champion that it was measured against ("" for none), and what is to be remembered of it."""

    found: Found
    against: str
    reason: str
    owner: str

    def facts(self, store: Store) -> dict[str, Any]:
        """Return the verdict as a decision about a champion takes it."""
        card = self.found.card
        model = Contender(card.digest, store.at(f"{MODELS}/{card.digest}"))
        return {
            "model": model,
            "against": self.against,
            "reason": self.reason,
            "metrics": card.metrics,
            "who": self.owner or local_owner(),
            "once": bool(self.owner),
        }


def _reject(store: Store, name: str, verdict: Verdict) -> str:
    digest = verdict.found.card.digest
    decision = champions.reject(store, name, **verdict.facts(store))
    if decision.kind != "reject" and decision.model.digest == digest:
        return ALREADY
    return f"kept; Model {digest} is rejected (record {decision.number}): {verdict.reason or 'not accepted'}"


def _promote(store: Store, name: str, verdict: Verdict, *, force: bool, obey: bool) -> tuple[bool, str]:
    """Return whether the Model was promoted, by this attempt or one before it, and why or why not."""
    digest = verdict.found.card.digest
    # A champion must not go when the place it was made in does.
    kept(verdict.found, store)
    try:
        decision = champions.promote(store, name, force=force, **verdict.facts(store))
    except (Superseded, champions.Refused) as error:
        if obey:
            raise
        return False, f"kept; {error}"
    if (decision.kind, decision.against) != ("promote", verdict.against):
        return False, ALREADY
    over = f"over {verdict.against}" if verdict.against else "as the first"
    return True, f"Model {digest} is promoted {over} (record {decision.number})"
