"""Owns the `carryover` command: which words there are, and what an error looks like and exits with."""

import importlib
import os
import signal
import sys
from importlib.metadata import entry_points
from typing import Any

import click

from carryover import __version__
from carryover.cli.everywhere import variables_kept, with_everywhere
from carryover.ground import last_words
from carryover.ground.config import nearest

COMMANDS = {
    "champion": "carryover.cli.champion:command",
    "checkpoint": "carryover.cli.checkpoint:command",
    "curves": "carryover.cli.curves:command",
    "doctor": "carryover.cli.doctor:command",
    "dump-backbone": "carryover.cli.dump_backbone:command",
    "evaluate": "carryover.cli.evaluate:command",
    "explain": "carryover.cli.explain:command",
    "find-model": "carryover.cli.find_model:command",
    "lineage": "carryover.cli.lineage:command",
    "preflight": "carryover.cli.preflight:command",
    "prepare-data": "carryover.cli.prepare_data:command",
    "promote": "carryover.cli.promote:command",
    "report": "carryover.cli.report:command",
    "rollback": "carryover.cli.rollback:command",
    "train-ddp": "carryover.cli.train_ddp:command",
    "transfer-train": "carryover.cli.transfer_train:command",
}
# The authoring side adds its verbs here, so that the runtime never imports it.
COMMAND_GROUP = "carryover.commands"


class NoSuchCommand(click.UsageError):
    """The first word is no command."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for, so that `carryover --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *(point.name for point in entry_points(group=COMMAND_GROUP))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module, _, attribute = COMMANDS[cmd_name].partition(":")
            return with_everywhere(getattr(importlib.import_module(module), attribute))
        for point in entry_points(group=COMMAND_GROUP, name=cmd_name):
            return with_everywhere(point.load())
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            near = nearest(name, self.list_commands(ctx))
            raise NoSuchCommand(f"no such command '{name}'" + (f"; did you mean '{near}'?" if near else ""), ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="carryover")
def command() -> None:
    """Continuous training: a preempted step goes on, new data extends a model, a backbone starts the next task.

    Exit codes: 0 done, 2 wrong input, 3 no progress, 75 run me again, 76 superseded, 1 anything else.
    """


with_everywhere(command)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with the code that the design names."""
    with variables_kept():
        return _main(arguments)


def _main(arguments: list[str] | None) -> Any:
    try:
        # Errors of ours are shown here, one line each; click shows its own (wrong flags) and exits with 2 as well.
        command.main(args=arguments, prog_name="carryover", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(128 + signal.SIGINT)
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python must not try to flush to it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        sys.exit(last_words.speak(error))


def _show(error: click.ClickException) -> None:
    """Print what click found wrong with the words of a command, in the form that all errors have."""
    words = error.format_message()
    unknown = isinstance(error, (click.NoSuchOption, NoSuchCommand))
    context = getattr(error, "ctx", None)
    if context is not None:
        words = f"{words.rstrip('.')}; see {context.command_path} --help"
    last_words.say_error(words[:1].lower() + words[1:], "unknown-key" if unknown else "wrong-flags")


if __name__ == "__main__":
    main()
