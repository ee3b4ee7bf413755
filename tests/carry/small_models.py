"""Models of a few bytes, which nobody can run: enough for whoever only names, finds, copies or counts them."""

import struct

from carryover.checkpoint.pack import RawTensor
from carryover.data.schema import Column, Schema
from carryover.ground.storage import Store, open_store
from carryover.models.card import ASSEMBLY
from carryover.models.export import make_card, write_model

SCHEMA = Schema("y", "binary", ("no", "yes"), (Column("y", "categorical", "string", {}),))


def small_model(store: Store, number: int) -> str:
    """Writes a Model whose digest is a function of `number` alone; returns its URI."""
    files = {ASSEMBLY: b'{"branches":[],"fusion":null}'}
    weights = {"weight": RawTensor("F32", (1,), struct.pack("<f", number))}
    card = make_card(
        files,
        weights,
        schema=SCHEMA,
        recipe={},
        run_key=f"run-{number}",
        step=number,
        checkpoint_uri="",
        dataset={"digest": f"{number:064x}", "uri": f"{store.uri}/datasets/{number}"},
        store=store.uri,
        metrics={"roc_auc": number / 10},
    )
    return write_model(open_store(card.at), card, files, weights)
