"""Owns the flags that several commands share, so that each is spelled and explained once."""

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def store_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --store."""
    return click.option(
        "--store",
        default="",
        metavar="URI",
        help="Where all that lasts is kept: a path, s3://, gs:// or others. Default: ./.carryover",
    )(function)


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --output and --outputs-dir."""
    function = click.option(
        "--outputs-dir",
        default="",
        metavar="DIR",
        help="Write one small file per output here (for Argo's valueFrom.path).",
    )(function)
    return click.option(
        "--output", default="", metavar="DIR", help="Write the artifact and result.json to this folder too."
    )(function)


def recipe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --recipe and --set."""
    function = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set one key of the recipe, e.g. optimization.learning_rate=2e-5. May be given again.",
    )(function)
    return click.option(
        "--recipe", default="", metavar="FILE", help="The recipe: a YAML file, or the YAML text itself."
    )(function)
