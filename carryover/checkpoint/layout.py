"""Owns where the parts of a run lie, how they are named, and the one error that says a part is not what it must be.

<store>/runs/<run_key>/           the run home; nothing in it names its own place, so it can be copied and moved
    run.json                      what the run is; made once, by put-if-absent
    log/0000000012.json           the history (see log.py)
    objects/<64 hex>              immutable content, named by its blake3 (see store.py)
    last.ckpt                     copy of the newest commit record: for people and tools, and a hint for readers
    heartbeat                     moved on by the living attempt (see heartbeat.py)
    metrics/                      the curve over all attempts (see metrics.py)
    lease/                        moved on by who waits for a job that trains the run (see lease.py)
    report.html  curves/          for people, drawn anew while it trains; nothing reads them
"""

import re
from collections.abc import Callable
from typing import TypeVar

from carryover.ground.errors import CarryoverError, RunAgain, WrongInput

FORMAT = 1
RUNS = "runs"
RUN = "run.json"
LOG = "log"
OBJECTS = "objects"
LAST = "last.ckpt"
HEARTBEAT = "heartbeat"

_RECORD = re.compile(r"(\d{10})\.json")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RUN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


# So often something that does not verify is read before the way to the store is given up.
_READS = 4
Read = TypeVar("Read")


class Damaged(CarryoverError, ValueError):
    """A stored file is missing, cut, changed or unreadable; found before anything in it was believed.

    Attributes:
        found: digest of what was read where something was, None where nothing was.
    """

    usual = "damaged"

    def __init__(self, message: str, *, found: str | None = None) -> None:
        super().__init__(message)
        self.found = found


def settled(look: Callable[[], Read]) -> Read:
    """Return what `look` reads and verifies; what it finds changed is read again, as the way may have spoilt it.

    Raises:
        Damaged: when it is missing, or the same wrong content comes twice: then that is what is stored.
        RunAgain: when the content is another each time, so that nothing is known of what is stored.
    """
    seen: dict[str, Damaged] = {}
    while len(seen) < _READS:
        try:
            return look()
        except Damaged as error:
            if error.found is None or error.found in seen:
                raise
            seen[error.found] = error
    said = next(iter(seen.values()))
    raise RunAgain(
        f"{said}; it was read {_READS} times and was another each time: the way to the store spoils it",
        trouble="store-unreachable",
    )


def padded(number: int) -> str:
    """Return a number as names carry it: ten digits, so that names sort as numbers do."""
    return f"{number:010d}"


def record_name(number: int) -> str:
    """Return the name of a log record inside the run home."""
    return f"{LOG}/{padded(number)}.json"


def record_number(name: str) -> int | None:
    """Return the number in a record's bare file name, None for any other file."""
    match = _RECORD.fullmatch(name)
    return int(match.group(1)) if match else None


def object_name(digest: str) -> str:
    """Return the name of an object inside the run home.

    Raises:
        Damaged: when `digest` is not one, so that a forged record can't lead to files elsewhere.
    """
    if not is_digest(digest):
        raise Damaged(f"{str(digest)[:80]!r} is not the digest of an object")
    return f"{OBJECTS}/{digest}"


def is_digest(text: object) -> bool:
    """Tell whether `text` is 64 lower-case hex characters."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def run_folder(run_key: str) -> str:
    """Return the folder of a run inside the store.

    Raises:
        WrongInput: for a key that can't be a folder name everywhere.
    """
    if not _RUN_KEY.fullmatch(run_key):
        raise WrongInput(f"run key {run_key!r}: must be 1 to 128 letters, digits, '.', '_' or '-', no dot in front")
    return f"{RUNS}/{run_key}"
