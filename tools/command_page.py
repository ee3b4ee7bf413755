"""Owns docs/commands.md: every word and flag of the command line, written from the commands themselves.

python -m tools.command_page           writes it
"""

from collections.abc import Iterator
from pathlib import Path

import click

from carryover.cli.main import command as carryover

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
HEAD = """\
# Command line

<!-- Written by `make docs` from the commands themselves; change it there. -->

`carryover COMMAND --help` prints the same in a terminal. Flags that may be given several times take several values at
once as well: `--source a.csv b.csv`.

| exit code | means | run again? |
| --- | --- | --- |
| 0 | done | |
| 2 | wrong input; the error says what and where | not before it is mended |
| 3 | no progress: three attempts without a new commit | not before it is mended |
| 75 | run me again: preempted and saved, or a rank or the store was lost | yes, the same command |
| 76 | superseded: another attempt has the run | no |
| 1 | anything else | |
"""


def page() -> str:
    """The whole page, as it should be."""
    found = dict(commands())
    index = ["| command | does |", "| --- | --- |"]
    index += [f"| [`carryover {name}`](#{_anchor(name)}) | {_first(one)} |" for name, one in found.items()]
    return "\n".join([HEAD, *index, "", *(line for name, one in found.items() for line in _section(name, one))])


def commands(group: click.Group = carryover, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield (words, command) of every command that does something, sorted: ("checkpoint ls", ...)."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if found is None or found.hidden:
            continue
        if isinstance(found, click.Group):
            yield from commands(found, f"{before}{name} ")
        else:
            yield before + name, found


def flags(command: click.Command) -> list[click.Option]:
    """Return the flags that a command's help lists, in its order."""
    return [one for one in command.params if isinstance(one, click.Option) and not one.hidden]


def _section(name: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=f"carryover {name}", max_content_width=110)
    lines = [f"## {name}", "", "```text", command.get_usage(context), "```", "", *_text(command.help or ""), ""]
    rows = [_row(one, context) for one in flags(command)]
    return [*lines, "| flag | meaning |", "| --- | --- |", *rows, ""] if rows else lines


def _text(help_text: str) -> list[str]:
    """Return the paragraphs of a command's help; those that click leaves as they are stay so."""
    lines: list[str] = []
    for paragraph in help_text.split("\n\n"):
        kept = paragraph.startswith("\b\n")
        said = paragraph.removeprefix("\b\n").rstrip()
        lines += ["```text", said, "```", ""] if kept else [" ".join(_plain(said).split()), ""]
    return lines[:-1]


def _row(option: click.Option, context: click.Context) -> str:
    said, meaning = option.get_help_record(context) or ("", "")
    return f"| `{said}` | {_plain(' '.join(meaning.split())).replace('|', chr(92) + '|')} |".replace("`-", "`-", 1)


def _plain(text: str) -> str:
    """Return text in which no word is taken for a tag, a link or emphasis."""
    return text.replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")


def _first(command: click.Command) -> str:
    return _plain(" ".join((command.help or "").split("\n\n")[0].split()))


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
