"""Owns what is known of commands that stand in a page: the words, flags, recipe keys and parameters that they may have.

carryover train-ddp --dataset URI --set optimization.max_epochs=3    command, flags, key of --set, of --param
make demo        python -m benchmarks.resume                         verb, module
"""

import functools
import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence

import click

from carryover.cli.main import command as carryover
from carryover.train.recipe import ALIASES, keys
from carryover_kfp.assets import ours
from tests.support.page_blocks import ROOT

_SEPARATORS = re.compile(r"&&|\|\||[|;&\n()]")
# What stands for something else in a page: KEY, ..., NAME, <digest>.
_PLACEHOLDER = re.compile(r"\.{2,}|…|[A-Z_]+|<.*>")
# What may stand before a command: VARIABLE=value, and programs that start another.
_BEFORE = re.compile(r"(?s)\w+=.*|timeout|nice|time|exec|if|then|until|while|do|!|-s|-n|KILL|TERM|\d+s?|\{")
_IDENTIFIER = re.compile(r"[a-z][\w.-]*")


def wrong(text: str) -> list[str]:
    """Return what is wrong with the commands of a shell text, one line for each; quotes are the shell's."""
    return [said for words in commands(text) for said in _wrong_words(words)]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of a shell text."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    while lines:
        line, words, lines = _first(lines)
        # A separator within quotes is no separator; shlex has taken the quotes away, so ask the line.
        if _SEPARATORS.search(re.sub(r"'[^']*'|\"[^\"]*\"", "", line)):
            yield from _apart(words)
        else:
            yield words


def _first(lines: list[str]) -> tuple[str, list[str], list[str]]:
    """Return the first command's text, its words, and the lines behind it: a quote may end on a later line."""
    for count in range(1, len(lines) + 1):
        line = "\n".join(lines[:count])
        try:
            return line, shlex.split(line, comments=True), lines[count:]
        except ValueError:
            continue
    return lines[0], lines[0].split(), lines[1:]


def _apart(words: Sequence[str]) -> Iterator[list[str]]:
    current: list[str] = []
    for word in words:
        if word in {"&&", "||", "|", ";", "&"}:
            yield current
            current = []
        else:
            current.append(word.rstrip(";") if word.endswith(";") else word)
            if word.endswith(";"):
                yield current
                current = []
    yield current


def _wrong_words(words: list[str]) -> Iterator[str]:
    while words and _BEFORE.fullmatch(words[0]):
        # train="carryover train-ddp ...", to be typed more than once
        yield from wrong(words[0].partition("=")[2].replace("\n", " "))
        words = words[1:]
    if not words:
        return
    name, rest = words[0].rpartition("/")[2], [one.strip("[]") for one in words[1:]]
    if name == "carryover":
        yield from _wrong_carryover(rest)
    if name == "make":
        yield from (f"no such verb: make {one}" for one in rest if _IDENTIFIER.fullmatch(one) and one not in verbs())
    if name in {"python", "python3"} and rest[:1] == ["-m"] and importlib.util.find_spec(rest[1]) is None:
        yield f"no such module: {rest[1]}"


def _wrong_carryover(words: list[str]) -> Iterator[str]:
    group: click.Command = carryover
    name = "carryover"
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        if _PLACEHOLDER.fullmatch(words[0]):
            return
        # `carryover compile|submit --image`: what holds for the last of them is what is looked at.
        found = [group.get_command(click.Context(group), one) for one in re.split(r"[|,/]", words[0])]
        if None in found:
            yield f"no such command: {name} {words[0]}"
            return
        group, name, words = found[-1] or group, f"{name} {words[0]}", words[1:]
    known = {spelling for one in (carryover, group) for option in one.params for spelling in _spellings(option)}
    pipeline = words[0] if words and words[0] in parameters() else ""
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if not re.match(r"--?[a-z]", flag):
            continue
        if flag.rstrip(".,") not in {*known, "--help", "-h", "--version"}:
            yield f"{name} has no flag {flag}"
        values = [value] if equals else list(_following(words[place + 1 :]))
        if flag in {"--set", "--extend-set"}:
            yield from (said for one in values for said in _wrong_key(one))
        if flag == "--param" and pipeline:
            yield from (said for one in values for said in _wrong_parameter(pipeline, one))


def _following(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("-"):
            return
        yield word


def _spellings(option: click.Parameter) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def _wrong_key(pair: str) -> Iterator[str]:
    key = pair.partition("=")[0]
    if "=" in pair and key not in recipe_names():
        yield f"no such recipe key: {key}"


def _wrong_parameter(pipeline: str, pair: str) -> Iterator[str]:
    name, equals, value = pair.partition("=")
    if equals and name not in parameters()[pipeline]:
        yield f"the pipeline {pipeline} has no parameter {name}"
    if equals and name in {"set", "extend_set"}:
        yield from _wrong_key(value)


@functools.cache
def recipe_names() -> frozenset[str]:
    """Every spelling of every key of a recipe."""
    newer = {name.replace("optimization.", "optim.", 1) for name in [*keys(), *ALIASES]}
    return frozenset(keys()) | frozenset(ALIASES) | newer


@functools.cache
def parameters() -> dict[str, frozenset[str]]:
    """The parameters of each pipeline, by its name."""
    pipelines = [asset for asset in ours() if asset.kind == "pipeline"]
    return {one.name: frozenset(parameter.name for parameter in one.signature().parameters) for one in pipelines}


@functools.cache
def verbs() -> frozenset[str]:
    """The Makefile's verbs."""
    found = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return frozenset(found[1].split())


@functools.cache
def flags_of_sources() -> frozenset[str]:
    """Every flag that is spelled anywhere in our sources: those of the command line and of our other programs."""
    folders = ("carryover", "carryover_kfp", "tools", "benchmarks", "examples", "images", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".sh"}]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return frozenset(re.findall(r"--[a-z][\w-]+", text))
