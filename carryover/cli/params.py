"""Owns `--param NAME=VALUE`: a flag whose value comes as one text, for engines that can't repeat or leave out a flag.

    --param 'set=["a=1","b=2"]'    --set=a=1 --set=b=2        a JSON list, or one plain value
    --param 'column-type={"zip": "categorical"}'              --column-type=zip=categorical
    --param takeover=true          --takeover                 false: left out, or its opposite (--rejected)
    --param time-limit=            nothing                    empty: left out

Argo fills values into a fixed list of words, and no shell takes that list apart: nothing in a value becomes a flag.
"""

import json
from collections.abc import Mapping
from typing import Any

import click

from carryover.cli.options import ManyValues
from carryover.ground.config import nearest

FLAG = "--param"
_HELP = (
    "A flag by its name and its value as one text, for engines that can't repeat or leave out a flag: a JSON list "
    'repeats it (set=["a=1","b=2"]), true gives a switch, empty leaves it out. Several may be given.'
)


class StepCommand(ManyValues):
    """A step's command: repeatable flags take several values, and --param stands for any flag."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params.append(
            click.Option([FLAG], multiple=True, expose_value=False, metavar="NAME=VALUE", help=_HELP),
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the flags that each --param stands for in its place, then parse as ever."""
        end = args.index("--") if "--" in args else len(args)
        spelled: list[str] = []
        words = iter(args[:end])
        for word in words:
            flag, equals, value = word.partition("=")
            if flag != FLAG:
                spelled.append(word)
                continue
            given = value if equals else next(words, "")
            spelled += self._flags(ctx, given)
        return super().parse_args(ctx, [*spelled, *args[end:]])

    def _flags(self, ctx: click.Context, given: str) -> list[str]:
        """Return the words that one NAME=VALUE stands for."""
        name, equals, text = given.partition("=")
        if not equals:
            ctx.fail(f"{FLAG} {given}: give NAME=VALUE, e.g. {FLAG} takeover=true")
        options = {
            flag.removeprefix("--"): option
            for option in self.params
            if isinstance(option, click.Option) and FLAG not in option.opts
            for flag in option.opts
            if flag.startswith("--")
        }
        name = name.strip().replace("_", "-")
        if name not in options:
            near = nearest(name, list(options))
            ctx.fail(f"{FLAG} {name}: no such flag" + (f"; did you mean {near}?" if near else ""))
        try:
            return _words(options[name], f"--{name}", text)
        except ValueError as error:
            ctx.fail(f"{FLAG} {name}: {error}")


def _words(option: click.Option, flag: str, text: str) -> list[str]:
    if not text.strip():
        return []
    if option.is_flag:
        answers = {"true": [flag], "false": list(option.secondary_opts[:1])}
        if text.strip().lower() not in answers:
            raise ValueError(f"'{text}' is neither true nor false")
        return answers[text.strip().lower()]
    return [f"{flag}={value}" for value in (_several(text) if option.multiple else [text])]


def _several(text: str) -> list[str]:
    """Return the values in a JSON list or mapping (as KEY=VALUE); other text is one value."""
    if text.lstrip()[:1] not in ("[", "{"):
        return [text]
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"'{text}' begins like JSON and is none ({error}); several values are a JSON list") from None
    pairs = [f"{key}={_plain(value)}" for key, value in found.items()] if isinstance(found, Mapping) else None
    return [_plain(value) for value in found] if pairs is None else pairs


def _plain(value: Any) -> str:
    if isinstance(value, (list, dict)):
        raise ValueError(f"{json.dumps(value)} is no plain value")
    return value if isinstance(value, str) else json.dumps(value)
