"""Owns the flags that several commands share, so that each is spelled and explained once."""

from collections.abc import Callable
from typing import Any

import click


class ManyValues(click.Command):
    """A command whose repeatable flags take several values at once: `--source a.csv b.csv`, as a shell gives *.csv."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat such a flag before each further value, then parse as click does."""
        flags = {
            flag
            for option in self.params
            if isinstance(option, click.Option) and option.multiple
            for flag in option.opts
        }
        spelled: list[str] = []
        current, has_value = "", False
        for word in args:
            if word.startswith("-"):
                flag, equals, _ = word.partition("=")
                current, has_value = (flag if flag in flags else ""), bool(equals)
            elif current and has_value:
                spelled.append(current)
            else:
                has_value = True
            spelled.append(word)
        return super().parse_args(ctx, spelled)


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
        help="Set one key of the recipe, e.g. optimization.learning_rate=2e-5. Several may be given.",
    )(function)
    return click.option(
        "--recipe", default="", metavar="FILE", help="The recipe: a YAML file, or the YAML text itself."
    )(function)
