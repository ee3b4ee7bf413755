"""Reads the two lines that every error ends with: what is wrong, and where to read more."""

from carryover.ground import trouble_page


def error_of(stderr: str) -> str:
    """Return the line of an error, once the line after it, the last, names an entry that there is."""
    *_, error, more = [line for line in stderr.splitlines() if not line.startswith("trace: ")]
    assert error.startswith("error: "), stderr
    assert more.removeprefix("more: carryover explain ") in trouble_page.entries(), stderr
    return error


def only_error_of(stderr: str) -> str:
    """Return the line of an error that has nothing before it."""
    assert len(stderr.splitlines()) == 2, stderr
    return error_of(stderr)
