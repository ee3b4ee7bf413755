"""Owns how times are told to people: lengths in words, moments in UTC."""

import math
from datetime import UTC, datetime


def duration(seconds: float | None) -> str:
    """Return a length of time as people say it, "n/a" where there is none."""
    if seconds is None or not math.isfinite(seconds):
        return "n/a"
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds else "0 s"
    whole = round(seconds)
    for size, unit, smaller, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller:02d}{rest}"
    return f"{whole} s"


def moment(seconds: float, *, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return Unix seconds as a moment in UTC, "n/a" where there is none."""
    return datetime.fromtimestamp(seconds, UTC).strftime(form) if math.isfinite(seconds) else "n/a"


def size(count: float | None) -> str:
    """Return a number of bytes as people say it, "n/a" where there is none."""
    if count is None or not math.isfinite(count):
        return "n/a"
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= power:
            return f"{count / power:.3g} {unit}"
    return f"{count:.0f} B"
