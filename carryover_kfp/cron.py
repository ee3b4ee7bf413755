"""Owns what a cron expression must look like for Kubeflow Pipelines, whose server reads it with robfig/cron.

    second minute hour day-of-month month day-of-week       0 30 3 * * *    every day at 3:30, in the server's time zone
    @hourly @daily @weekly @monthly @yearly                 @every 6h

Unix's five fields are refused: the server takes them for the first five of six, so that "30 3 * * *" (daily at 3:30)
would run at second 30 of minute 3 of every hour.
"""

import re

from carryover.ground.errors import WrongInput

_MONTHS: dict[str, int] = dict(
    zip("jan feb mar apr may jun jul aug sep oct nov dec".split(), range(1, 13), strict=True)
)
_DAYS: dict[str, int] = dict(zip("sun mon tue wed thu fri sat".split(), range(7), strict=True))
# Name, least and greatest value, and words that stand for values.
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_DURATION = re.compile(r"(\d+(\.\d+)?(h|m|s))+")
_PART = re.compile(r"(?P<first>\*|\?|\w+)(-(?P<last>\w+))?(/(?P<step>\d+))?")


def check_cron(text: str) -> str:
    """Return an expression, its blanks made single ones.

    Raises:
        WrongInput: when the server would refuse it, or understand another time than a person who knows Unix's cron.
    """
    words = text.split()
    if words and words[0].startswith("@"):
        every = words[0] == "@every" and len(words) == 2 and _DURATION.fullmatch(words[1])
        if not (every or (len(words) == 1 and words[0] in _WORDS)):
            raise WrongInput(f"--cron '{text}': there are {', '.join(_WORDS)} and '@every 6h'")
        return " ".join(words)
    if len(words) == len(_FIELDS) - 1:
        raise WrongInput(
            f"--cron '{text}': Kubeflow's cron has six fields, the first of them seconds; "
            f"did you mean '0 {' '.join(words)}'?"
        )
    if len(words) != len(_FIELDS):
        names = ", ".join(name for name, *_ in _FIELDS)
        raise WrongInput(f"--cron '{text}': must have six fields ({names}), e.g. '0 30 3 * * *' for every day at 3:30")
    for word, (name, least, most, known) in zip(words, _FIELDS, strict=True):
        for part in word.split(","):
            if why := _wrong(part, least, most, known):
                raise WrongInput(f"--cron '{text}': {name} '{word}': {why}")
    return " ".join(words)


def _wrong(part: str, least: int, most: int, known: dict[str, int]) -> str:
    """Return what is wrong with one item of a field, "" for nothing."""
    match = _PART.fullmatch(part)
    if not match or (match["first"] in "*?" and match["last"]):
        return f"'{part}' is no value, range (1-5) or step (*/5)"
    ends = [match[name] for name in ("first", "last") if match[name] and match[name] not in "*?"]
    values = [known.get(end.lower(), int(end) if end.isdecimal() else -1) for end in ends]
    if any(not least <= value <= most for value in values):
        return f"must be {least} to {most}{f', or {next(iter(known))} to {list(known)[-1]}' if known else ''}"
    if values != sorted(values):
        return f"the range {part} ends before it begins"
    return "the step must be 1 or more" if match["step"] and int(match["step"]) == 0 else ""
