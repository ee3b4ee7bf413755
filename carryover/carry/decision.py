"""Owns what one record about a champion says, and how it is written and read; see champion.py for how they follow.

{"format": 1, "name": "stars", "number": 3, "kind": "promote|reject|rollback",
 "model": {"digest": 32 hex, "uri": where it lay},
 "against": digest of the champion that the decision was made against ("" for none),
 "against_number": of the record that made it champion, or null,
 "forced": promoted although it had been refused, "reason": words, "metrics": {name: number or null},
 "who": the run or person that decided, "time": ISO 8601 in UTC, for people only,
 "nonce": 32 hex, "previous": blake3 of the bytes of record 2 ("" for record 0),
 "check": blake3 of this record's canonical JSON without this key}
"""

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

from carryover.checkpoint.layout import Damaged
from carryover.ground.digests import canonical, digest

FORMAT = 1
Kind = Literal["promote", "reject", "rollback"]
_KINDS = ("promote", "reject", "rollback")


@dataclass(frozen=True)
class Contender:
    """A Model as a record names it: its digest (32 hex characters), and where it lay."""

    digest: str
    uri: str


@dataclass(frozen=True)
class Draft:
    """What a decision says before it has a place in the history.

    Attributes:
        kind: "promote", "reject" or "rollback" (then `model` is the champion from now on).
        against: digest of the champion that the decision was made against, "" where there was none.
        against_number: number of the record that made it champion, None where there was none.
        forced: whether it was promoted although it had been refused.
        metrics: what is known of the model, None where a score has no value.
        who: the run or the person that decided; a retry of the same one finds its decision again.
    """

    kind: Kind
    model: Contender
    against: str = ""
    against_number: int | None = None
    forced: bool = False
    reason: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    who: str = ""


@dataclass(frozen=True)
class Decision:
    """One record; for what a draft says too, see there.

    Attributes:
        time: ISO 8601 in UTC, for people only.
        previous: blake3 of the record before, "" for the first.
        data: the very bytes.
        digest: their blake3.
    """

    number: int
    kind: Kind
    model: Contender
    against: str
    against_number: int | None
    forced: bool
    reason: str
    metrics: Mapping[str, float | None]
    who: str
    time: str
    nonce: str
    previous: str
    data: bytes = field(repr=False)
    digest: str


def make(draft: Draft, *, name: str, number: int, previous: str) -> Decision:
    """Return a draft as the record of this number, after the one with the digest `previous`."""
    scores = draft.metrics.items()
    plain = {
        **asdict(draft),
        "metrics": {key: value if value is not None and math.isfinite(value) else None for key, value in scores},
        "format": FORMAT,
        "name": name,
        "number": number,
        "previous": previous,
        "nonce": secrets.token_hex(16),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    # Read back from its own bytes: what is returned is exactly what another process will read.
    return decode(canonical({**plain, "check": digest(canonical(plain))}), name=name, number=number)


def decode(data: bytes, *, name: str, number: int) -> Decision:
    """Read a record's bytes.

    Raises:
        Damaged: unless they are, unchanged, what was written for this name under this number.
    """
    try:
        plain = json.loads(data)
        check = plain.pop("check")
        if digest(canonical(plain)) != check:
            raise Damaged("its content has changed, it does not match its own digest")
        if plain["format"] != FORMAT:
            raise Damaged(f"format {plain['format']} is not one that this version reads")
        if (plain["name"], plain["number"]) != (name, number) or plain["kind"] not in _KINDS:
            raise Damaged(f"holds {plain['kind']} {plain['number']} of champion '{plain['name']}'")
        del plain["format"], plain["name"]
        model = Contender(**plain.pop("model"))
        return Decision(**plain, model=model, data=data, digest=digest(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged(f"no record of a champion ({len(data)} bytes)") from error
