"""Owns who may take a run: the names of owners, and what a claim of somebody else means for us.

nobody claimed it, or the last attempt has finished      -> free
the last claim is ours (a retry)                         -> free: our older attempt is superseded
its process is dead, seen on its own machine             -> free
--takeover                                               -> free
it once was ours and somebody else took it since         -> Superseded, until --takeover
anybody else's                                           -> busy: watch the heartbeat, free once that stands still
"""

import os
import socket
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from carryover.checkpoint.log import Head, Record
from carryover.ground.errors import Superseded


class Turn(Enum):
    """Whether a run may be claimed now."""

    FREE = "free"
    BUSY = "busy"


def this_process() -> dict[str, Any]:
    """Return host, pid and boot of this process; boot tells machines, their boots and pid namespaces apart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        boot += "-" + os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        boot = ""  # Not Linux: then no process is ever called dead by looking.
    return {"host": socket.gethostname(), "pid": os.getpid(), "boot": boot}


def local_owner() -> str:
    """Return the owner that a process is when nobody names one: "local:host:boot:pid"."""
    here = this_process()
    return f"local:{here['host']}:{here['boot']}:{here['pid']}"


def is_dead(claim: Mapping[str, Any]) -> bool:
    """Tell whether the process that made a claim is known to be gone; False when it can't be seen from here."""
    here = this_process()
    if not here["boot"] or (claim["host"], claim["boot"]) != (here["host"], here["boot"]):
        return False
    try:
        os.kill(claim["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _is_zombie(claim["pid"])


def turn(claim: Record | None, head: Head, *, owner: str, takeover: bool) -> Turn:
    """Say whether `owner` may claim the run whose newest claim is `claim`.

    Raises:
        Superseded: when another owner took this run from `owner` and has not finished it.
    """
    if claim is None or takeover or has_ended(claim, head) or claim.body["owner"] == owner:
        return Turn.FREE
    if owner in claim.body["superseded"]:
        raise Superseded(
            f"owner {claim.body['owner']} took this run over from {owner} (attempt {claim.attempt}); "
            "--takeover takes it back"
        )
    return Turn.FREE if is_dead(claim.body) else Turn.BUSY


def superseded_by(claim: Record | None, head: Head, *, owner: str) -> list[str]:
    """Return the owners that a new claim of `owner` supersedes, those of unfinished earlier attempts too."""
    if claim is None or has_ended(claim, head):
        return []
    return sorted({*claim.body["superseded"], claim.body["owner"]} - {owner})


def has_ended(claim: Record, head: Head) -> bool:
    """Tell whether the attempt of this claim has written its finish."""
    return head.newest.finish is not None and head.newest.finish > claim.number


def _is_zombie(pid: int) -> bool:
    """A killed process whose parent has not looked yet still has its pid, but will never write again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
