"""Owns the flags of whoever watches a run: how often it looks, and how often and how soon it retries."""

from collections.abc import Callable
from typing import Any

import click

from carryover.ground.errors import WrongInput

MOST_RETRIES = 20
SECONDS = 30.0


def watch_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --most-retries, --every and --pause; None means that one was not given."""
    for option in (
        click.option(
            "--pause",
            type=float,
            metavar="SECONDS",
            help="Wait before a run's first retry, twice as long before each further one, ten minutes at most.  "
            f"[default: {SECONDS:g}]",
        ),
        click.option(
            "--every", type=float, metavar="SECONDS", help=f"How long between two looks.  [default: {SECONDS:g}]"
        ),
        click.option(
            "--most-retries",
            type=click.IntRange(min=0),
            metavar="N",
            help=f"How often the run may be retried, earlier retries counted.  [default: {MOST_RETRIES}]",
        ),
    ):
        function = option(function)
    return function


def pace_of(every: float | None, pause: float | None) -> Any:
    """Return the pace of a watch, or raise WrongInput."""
    from carryover_kfp.watching import Pace

    for flag, value in (("--every", every), ("--pause", pause)):
        if value is not None and value <= 0:
            raise WrongInput(f"{flag}: {value:g} is not possible; it must be above 0")
    return Pace(every=SECONDS if every is None else every, pause=SECONDS if pause is None else pause)
