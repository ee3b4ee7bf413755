"""Owns how amounts read to people: lengths of time, and sizes of files."""


def duration(seconds: float) -> str:
    """Return a length of time as people say it: 42s, 3m05s, 2h10m, 4d03h."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours >= 48:
        return f"{hours // 24}d{hours % 24:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def size(count: float) -> str:
    """Return a number of bytes as people say it, in powers of 1024: 812 B, 4.2 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
