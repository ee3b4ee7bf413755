"""Owns what one record of the log says, and how it is read; see log.py for how records follow each other.

{"format": 1, "number": 3, "kind": "claim|commit|finish",
 "previous": blake3 of the bytes of record 2 ("" for record 0), "attempt": 2, "nonce": 32 hex,
 "time": ISO 8601 in UTC, for people only,
 "newest": {"claim": 3, "commit": 2, "finish": null},     numbers as of this record, itself included:
                                                          who reads the newest record knows the head of all kinds
 "check": blake3 of this record's canonical JSON without this key: a flipped bit in the newest record, which no
          later one vouches for, is found too
 ... what this kind says, beside the keys above:
 claim   owner, host, pid, boot, takeover, changes {recipe key: value}, resumed_from (commit number or null),
         heartbeat_step (last step seen of the attempt before, or null), superseded [owners that lost this run],
         run (blake3 of run.json)
 commit  step, epoch, table {digest, size}, files {name: {digest, size}}, state {},
         objects [{digest, size}] (all it refers to, the table too),
         kept [numbers of the commits kept from now on, itself too], score or null,
         parent (number of the commit that its state came from, or null)
 finish  step, reason, table, files {name: {digest, size}}, objects [...], metrics {}, model (digest), limits {}}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from carryover.checkpoint.layout import FORMAT, Damaged, record_name
from carryover.checkpoint.store import Ref
from carryover.ground.digests import canonical, digest

Kind = Literal["claim", "commit", "finish"]
_KINDS = ("claim", "commit", "finish")
HEADER = ("format", "number", "kind", "previous", "attempt", "nonce", "time", "newest", "check")


@dataclass(frozen=True)
class Newest:
    """The newest record of each kind by number, None where there is none yet."""

    claim: int | None = None
    commit: int | None = None
    finish: int | None = None


@dataclass(frozen=True)
class Record:
    """One record of the log; `body` holds what its kind says, `data` the very bytes, `digest` their blake3."""

    number: int
    kind: Kind
    previous: str
    attempt: int
    nonce: str
    time: str
    newest: Newest
    body: Mapping[str, Any]
    data: bytes = field(repr=False)
    digest: str

    @property
    def step(self) -> int:
        """Optimizer steps done (commit, finish)."""
        return self.body["step"]

    @property
    def epoch(self) -> int:
        """Epoch that the commit lies in."""
        return self.body["epoch"]

    @property
    def state(self) -> Mapping[str, Any]:
        """What the trainer needs beside tensors to go on from this commit."""
        return self.body["state"]

    @property
    def score(self) -> float | None:
        """Validation score of the commit, None when there is none."""
        return self.body["score"]

    @property
    def kept(self) -> tuple[int, ...]:
        """Numbers of the commits that were kept from this commit on, itself included."""
        return tuple(self.body["kept"])

    @property
    def table(self) -> Ref:
        """The tensor table (commit, finish)."""
        return Ref.from_json(self.body["table"])

    @property
    def files(self) -> dict[str, Ref]:
        """Relative name -> object of the files beside tensors (commit, finish)."""
        return {name: Ref.from_json(value) for name, value in self.body["files"].items()}

    @property
    def objects(self) -> tuple[Ref, ...]:
        """All objects that this record refers to (commit, finish)."""
        return tuple(Ref.from_json(value) for value in self.body["objects"])


def decode(number: int, data: bytes) -> Record:
    """Read a record's bytes.

    Raises:
        Damaged: unless they are, unchanged, what was written under this number.
    """
    try:
        return _decode(number, data)
    except Damaged as error:
        error.found = digest(data)
        raise


def _decode(number: int, data: bytes) -> Record:
    name = record_name(number)
    try:
        plain = json.loads(data)
        check = plain.pop("check")
        if digest(canonical(plain)) != check:
            raise Damaged(f"{name}: content has changed, it does not match its own digest")
        if plain["format"] != FORMAT:
            raise Damaged(f"{name}: format {plain['format']} is not one that this version reads")
        if plain["number"] != number or plain["kind"] not in _KINDS:
            raise Damaged(f"{name}: holds {plain['kind']} {plain['number']}")
        if (
            plain["newest"][plain["kind"]] != number
            or max(n for n in plain["newest"].values() if n is not None) > number
        ):
            raise Damaged(f"{name}: names later records as those before it")
        header = {key: plain.pop(key) for key in HEADER if key != "check"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged(f"{name}: not a log record ({len(data)} bytes)") from error
    del header["format"]
    return Record(**{**header, "newest": Newest(**header["newest"])}, body=plain, data=data, digest=digest(data))
