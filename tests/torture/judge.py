"""Judging what a run has become, after each kill and at its end, against the same run that nobody killed."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.log import Record
from carryover.checkpoint.store import Table
from carryover.checkpoint.verify import verify
from carryover.ground.errors import CarryoverError
from tests.torture.harness import note

EPOCHS = 12
# What is its own in every run, and need not be the same bits: time, and what was done again.
_OWN = ("seconds", "lost_steps")


@dataclass
class Found:
    """What kills have shown so far: how often each promise was put to the test, and each time that it was broken."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    starts: int = 0
    samples: int = 0
    torn: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    uneven: list[str] = field(default_factory=list)
    bits: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    @property
    def all_kills(self) -> list[str]:
        """Return the kind of each kill."""
        return list(self.kills.elements())

    @property
    def violations(self) -> list[str]:
        """Return all of them."""
        return [*self.torn, *self.lost, *self.uneven, *self.bits, *self.ends]

    def __add__(self, other: "Found") -> "Found":
        both = {one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)}
        return Found(**both)


@dataclass(frozen=True)
class Outcome:
    """What a finished run left: digests of its tensors at the newest commit, its state, and its final weights."""

    tensors: dict[str, str]
    state: dict[str, Any]
    weights: dict[str, str]
    seconds: float
    first_save: float


def outcome(home: RunHome, seconds: float = 0, first_save: float = 0) -> Outcome:
    """Read a finished run."""
    newest, finish = home.commits()[-1], home.finish_record()
    assert finish
    digests = [_digests(home.objects.load_table(record.table)) for record in (newest, finish)]
    state = {name: value for name, value in newest.state.items() if name not in _OWN}
    return Outcome(digests[0], state, digests[1], seconds, first_save)


def _digests(table: Table) -> dict[str, str]:
    return {name: f"{entry.dtype} {entry.shape} {entry.digest}" for name, entry in table.tensors.items()}


def inspect(home: RunHome) -> list[str]:
    """Return all that is torn: what `carryover checkpoint verify` finds, and what the next start would not believe."""
    problems = list(verify(home).problems)
    try:
        home.load_newest(problems.append)
    except CarryoverError as error:
        problems.append(str(error))
    return problems


def judge_run(home: RunHome, rows: int, said: list[str], want: Outcome, found: Found) -> None:
    """Judge a finished run by its log, its sample records, its last tensors, and what its attempts said.

    Args:
        rows: of the training split.
        said: what each attempt printed.
    """
    records = home.log.records()
    commits = {record.number: record for record in records if record.kind == "commit"}
    found.lost += _lost(home, records, commits, said)
    found.starts += sum(record.kind == "claim" for record in records)
    found.uneven += _uneven(home, _chain(commits), rows, found)
    have = outcome(home)
    for what, mine, theirs in (
        ("tensor", have.tensors, want.tensors),
        ("state", have.state, want.state),
        ("final weight", have.weights, want.weights),
    ):
        names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        found.bits += [f"{home.store.uri}: {what} {name} is not as in the run that nobody killed" for name in names]


def _lost(home: RunHome, records: list[Record], commits: dict[int, Record], said: list[str]) -> list[str]:
    """Return each attempt that did not go on from the newest commit, and each commit that was said to be and is not."""
    problems, newest, began = [], None, {}
    for record in records:
        step = newest.step if newest else 0
        if record.kind == "claim":
            began[record.attempt] = step
        if record.kind == "commit":
            taken = json.loads(home.store.read(f"samples/{record.step:010d}-{record.attempt:010d}-0.json"))
            if (record.body["parent"], taken["from_step"]) != (newest.number if newest else None, step):
                problems.append(f"commit {record.number} does not go on from the one before it, of step {step}")
            newest = record
    for text in said:
        for attempt, step in re.findall(r"attempt (\d+) goes on from step (\d+)", text):
            if began.get(int(attempt)) != int(step):
                problems.append(f"attempt {attempt} began at step {step}, the newest commit is of {began}")
        for step, number in re.findall(r"committed step (\d+) \(record (\d+)\)", text):
            if int(number) not in commits or commits[int(number)].step != int(step):
                problems.append(f"step {step} was said to be committed as record {number}")
    return problems


def _chain(commits: dict[int, Record]) -> list[Record]:
    """Return the commits that the newest one came from, oldest first, and itself."""
    number, chain = max(commits, default=None), []
    while number is not None:
        chain.append(commits[number])
        number = commits[number].body["parent"]
    return chain[::-1]


def _uneven(home: RunHome, commits: list[Record], rows: int, found: Found) -> list[str]:
    """Return each epoch in which a row did not come exactly once."""
    seen: dict[int, Counter[int]] = {}
    for record in commits:
        taken = json.loads(home.store.read(f"samples/{record.step:010d}-{record.attempt:010d}-0.json"))
        for _, epoch, taken_rows in taken["epoch_rows"]:
            seen.setdefault(epoch, Counter()).update(taken_rows)
    found.samples += sum(sum(counts.values()) for counts in seen.values())
    uneven: list[str] = []
    for epoch in range(max([EPOCHS - 1, *seen]) + 1):
        counts = seen.get(epoch, Counter())
        repeated = sum(count - 1 for count in counts.values())
        skipped = rows - len(counts)
        if repeated or skipped:
            uneven.append(f"epoch {epoch}: {repeated} samples repeated, {skipped} skipped")
    return uneven


def note_all(found: dict[int, Found], what: str, *, store: str) -> list[str]:
    """Add the results to the page: how many kills by number of ranks, and how often each promise was put to the test.

    Returns:
        All violations.
    """
    total = Found()
    for world, one in found.items():
        total += one
        if one.all_kills:
            ranks = f"{world} rank{'s' * (world > 1)}"
            note(f"{what}, {ranks}", store=store, count=len(one.all_kills), violations=len(one.violations))
    for promise, count, wrong in (
        ("one rank alone", total.kills["one"], total.ends),
        ("looked at after each kill, nothing torn", len(total.all_kills), total.torn),
        ("attempts, each from the newest commit", total.starts, total.lost),
        ("samples, each once an epoch", total.samples, total.uneven),
        ("runs, weights and optimizer bit-identical", total.runs, total.bits),
    ):
        if count or wrong:
            note(f"{what}: {promise}", store=store, count=count, violations=len(wrong))
    print(f"{dict(total.kills)} kills in {total.runs} runs; {total.starts} attempts; {total.samples} samples")
    return total.violations
