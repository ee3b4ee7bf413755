"""Owns what one look of the doctor is: a finding, the time it may take, and what becomes of a look that goes wrong."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from carryover.ground import last_words
from carryover.ground.storage import first_line

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """What a look found; `mend` says what to do where it is not well, `trouble` names the entry that says more."""

    name: str
    state: str
    found: str
    mend: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Look:
    """Some looks that belong together: they run in a thread of their own, for `seconds` at most.

    `trouble` is what it is when they do not end.
    """

    name: str
    seconds: float
    find: Callable[[], Iterable[Finding]]
    trouble: str = ""


def look_at_all(looks: Iterable[Look]) -> Iterator[list[Finding]]:
    """Give each look's findings, in order; all run at once, and none longer than its time.

    What has found something before its time is over is heard; a look that hangs is left behind, as its process ends.
    """
    begun = [(look, *_begin(look)) for look in looks]
    for look, thread, found in begun:
        thread.join(look.seconds)
        still = list(found)
        if thread.is_alive():
            text, mend = f"no end within {look.seconds:g} s", "try again; if it hangs again, look at what it asks"
            still.append(Finding(look.name, FAIL, text, mend, look.trouble))
        yield still


def _begin(look: Look) -> tuple[threading.Thread, list[Finding]]:
    found: list[Finding] = []

    def run() -> None:
        try:
            # One by one: what was found before a look goes wrong counts.
            found.extend(look.find())
        except Exception as error:
            ours = last_words.ours(error)
            found.append(Finding(look.name, FAIL, f"this look failed: {first_line(error)}", "", ours.trouble))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, found
