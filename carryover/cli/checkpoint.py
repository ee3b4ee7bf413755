"""Owns `carryover checkpoint`: what a run's checkpoints are, whether they are whole, and which of them stay."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import RUNS, Damaged, record_name
from carryover.checkpoint.log import Record
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.store import Table
from carryover.checkpoint.verify import verify as inspect
from carryover.cli.checkpoint_forms import export_command, import_command
from carryover.ground import failures, storage
from carryover.ground.console import warn
from carryover.ground.errors import CarryoverError, WrongInput

_WORDS = ("run:", "champion:")
_UNITS = ("B", "kB", "MB", "GB", "TB")


@click.group(name="checkpoint")
def command() -> None:
    """List, show, verify and prune the checkpoints of a run.

    URI is a run home (STORE/runs/KEY), or run:KEY or champion:NAME of --store; or give the store, as URI or by --store,
    and --run-key KEY.
    """


def _where(function: Any) -> Any:
    """Add the words that name a run."""
    function = click.option("--run-key", default="", metavar="KEY", help="The run, where the URI is of a store.")(
        function
    )
    function = click.option("--store", default="", metavar="URI", help="The store, of run:KEY or with --run-key.")(
        function
    )
    return click.argument("uri", default="", required=False)(function)


@command.command()
@_where
@click.option("--log", "whole", is_flag=True, help="Every record of the history, not only what is kept.")
def ls(uri: str, store: str, run_key: str, whole: bool) -> None:
    """List the checkpoints that are kept, the newest claim and the finishes."""
    home = _open(uri, store, run_key)
    kept = {record.number for record in home.commits()}
    if whole:
        found = list(home.log.scan())
        for problem in (entry for entry in found if isinstance(entry, Damaged)):
            warn(str(problem))
        records = [entry for entry in found if not isinstance(entry, Damaged)]
    else:
        claim = home.latest_claim()
        records = [*home.commits(), *home.finish_records(), *([claim] if claim else [])]
        records.sort(key=lambda record: record.number)
    click.echo(home.store.uri)
    if not records:
        click.echo("no records yet")
        return
    click.echo(
        _table(
            ("number", "kind", "attempt", "step", "epoch", "score", "size", "kept", "time", "note"),
            _rows(records, kept),
        )
    )


@command.command()
@_where
@click.option("--number", type=int, help="The commit or finish of this number (see ls). Default: the newest commit.")
def show(uri: str, store: str, run_key: str, number: int | None) -> None:
    """Show one checkpoint: its counters, its tensors by group, and the trainer's state."""
    home = _open(uri, store, run_key)
    record = _choose(home, number)
    table = home.objects.load_table(record.table)
    facts: list[tuple[str, object]] = [
        ("run", home.store.uri),
        ("record", f"{record.number} ({record.kind})"),
        ("time", record.time),
        ("attempt", record.attempt),
        ("step", record.step),
    ]
    if record.kind == "commit":
        facts += [("epoch", record.epoch), ("score", _number(record.score)), ("kept", ", ".join(map(str, record.kept)))]
        facts += [("parent", "none" if record.body["parent"] is None else record.body["parent"])]
    else:
        facts += [("reason", record.body["reason"]), ("model", record.body["model"])]
        facts += [(f"metric {name}", _number(value)) for name, value in record.body["metrics"].items()]
    facts += [("size", _size(sum(ref.size for ref in record.objects)))]
    width = max(len(name) for name, _ in facts)
    click.echo("\n".join(f"{name:<{width}}  {value}" for name, value in facts))
    click.echo("\n" + _table(("group", "tensors", "dtypes", "size"), _groups(table)))
    if record.files:
        rows = [(name, _size(ref.size)) for name, ref in sorted(record.files.items())]
        click.echo("\n" + _table(("file", "size"), rows))
    if record.kind == "commit":
        click.echo("\nstate")
        click.echo(json.dumps(record.state, indent=2, sort_keys=True, ensure_ascii=False))


@command.command()
@_where
def verify(uri: str, store: str, run_key: str) -> None:
    """Hash every record and every object; exit 1 when anything is not what was written."""
    home = _open(uri, store, run_key)
    result = inspect(home)
    for problem in result.problems:
        click.echo(f"damaged: {problem}")
    looked = f"{result.records} records, {result.objects} objects, {_size(result.bytes)}"
    if result.problems:
        raise Damaged(f"{home.store.uri}: {len(result.problems)} of {looked} are not what was written")
    click.echo(f"{home.store.uri}: {looked}: all as written")


@command.command()
@_where
@click.option("--keep-last", type=click.IntRange(1), metavar="N", help="Newest ones that stay. Default: the recipe's.")
@click.option("--keep-best", type=click.IntRange(0), metavar="N", help="Best ones that stay. Default: the recipe's.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(uri: str, store: str, run_key: str, keep_last: int | None, keep_best: int | None, dry_run: bool) -> None:
    """Keep fewer checkpoints of a run that nobody trains now, and remove all that nothing refers to.

    What the last attempt was resumed from stays, the best weights so far, and every finish. A run with a living
    attempt is refused with exit code 75: that one prunes by itself.
    """
    from carryover.checkpoint.prune import plan
    from carryover.checkpoint.prune import prune as carry_out

    home = _open(uri, store, run_key)
    keep = _keep(home, keep_last, keep_best)
    found = plan(home, keep)
    click.echo(home.store.uri)
    click.echo(f"keeps commits {', '.join(map(str, found.kept))}")
    if found.empty:
        click.echo("nothing to remove")
        return
    words = "would remove" if dry_run else "removes"
    click.echo(
        f"{words} commits {', '.join(map(str, found.dropped)) or 'none'}: {len(found.objects)} objects, "
        f"{_size(found.bytes)}, and {found.unfinished} writes that never ended"
    )
    if not dry_run:
        record = carry_out(home, keep)
        click.echo(f"record {record.number}: commits {', '.join(map(str, record.kept))} are kept from now on")


def _keep(home: RunHome, keep_last: int | None, keep_best: int | None) -> Keep:
    """Return what a person asked for, with the recipe that the run last had for the rest."""
    last = home.latest_claim()
    settings = {**home.run().get("recipe", {}), **(last.body["changes"] if last else {})}
    own = {name: settings.get(f"checkpoint.{name}", default) for name, default in (("keep_last", 2), ("keep_best", 1))}
    best = own["keep_best"] if keep_best is None else keep_best
    greater = not best or _greater_is_better(home, str(settings.get("optimization.val_metric", "auto")))
    return Keep(last=own["keep_last"] if keep_last is None else keep_last, best=best, greater_is_better=greater)


def _greater_is_better(home: RunHome, metric: str) -> bool:
    """Say which scores are the best, from the task that the newest scored commit carries."""
    from carryover.tasks import task
    from carryover.tasks.metrics import find_metric

    scored = [record for record in home.commits() if record.score is not None]
    if not scored:
        return True
    if task.FILE not in scored[-1].files:
        raise WrongInput(f"{home.store.uri}: its commits don't say which scores are better; give --keep-best 0")
    file = home.objects.get_file(scored[-1].files[task.FILE])
    return find_metric(metric, task.restore_task({task.FILE: file}).problem_type).greater_is_better


def _open(uri: str, store: str, run_key: str) -> RunHome:
    if uri.startswith(_WORDS) and not run_key:
        from carryover.steps.run_source import find_run

        return find_run(uri, store=store)
    if bool(uri) == bool(store):
        raise WrongInput("name the run once: the URI of its home, or a store (URI or --store) and --run-key")
    if store and not run_key:
        raise WrongInput(f"--store {store}: which run? give --run-key, or the URI of the run home alone")
    place = RunHome.open(storage.open_store(uri or store), run_key).store.uri if run_key else uri
    try:
        return RunHome.at(place)
    except WrongInput as error:
        raise WrongInput(
            f"{error}{_instead(uri or store)}" if run_key else str(error),
            trouble=error.trouble,
        ) from None
    except CarryoverError:
        raise
    except Exception as error:
        # Object store clients raise their own kinds (credentials, endpoint); all mean that the URI leads nowhere.
        trouble = failures.trouble_of(error, "not-there")
        raise WrongInput(f"{place}: can't be read: {storage.first_line(error)}", trouble=trouble) from error


def _instead(uri: str) -> str:
    """Say what a person may have meant who named a run that there is not, by its key."""
    there = RunHome(storage.open_store(uri))
    if there.exists():
        return f"; {there.store.uri} is a run home itself: leave out --run-key"
    keys = there.store.folders(RUNS)
    return f"; its runs are {', '.join(keys[:5])}" if keys else ""


def _choose(home: RunHome, number: int | None) -> Record:
    if number is None:
        newest = home.commits()[-1:] or home.finish_records()[-1:]
        if not newest:
            raise WrongInput(f"{home.store.uri}: no checkpoint yet", trouble="no-such-run")
        return newest[0]
    if number < 0 or not home.store.exists(record_name(number)):
        raise WrongInput(
            f"--number {number}: {home.store.uri} has no such record; `carryover checkpoint ls` lists them",
            trouble="no-such-run",
        )
    record = home.log.read(number)
    if record.kind == "claim":
        raise WrongInput(
            f"--number {number}: is the claim of an attempt, not a commit or finish", trouble="no-such-run"
        )
    return record


def _rows(records: Sequence[Record], kept: set[int]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for record in records:
        row = [str(record.number), record.kind, str(record.attempt)]
        if record.kind == "claim":
            row += ["", "", "", "", "", record.time, _claim_note(record.body)]
        else:
            # Only what this record added: what it shares with those above is stored once.
            size = sum(ref.size for ref in record.objects if ref.digest not in seen)
            seen |= {ref.digest for ref in record.objects}
            commit = record.kind == "commit"
            row += [str(record.step), str(record.epoch) if commit else "", _number(record.score) if commit else ""]
            row += [_size(size), "yes" if not commit or record.number in kept else "no", record.time]
            row += ["" if commit else record.body["reason"]]
        rows.append(tuple(row))
    return rows


def _claim_note(body: Mapping[str, Any]) -> str:
    start = "from zero" if body["resumed_from"] is None else f"from commit {body['resumed_from']}"
    return f"{body['owner']}, {start}" + (", taken over" if body["takeover"] else "")


def _groups(table: Table) -> list[tuple[str, ...]]:
    count, size, dtypes = Counter[str](), Counter[str](), dict[str, set[str]]()
    for name, entry in table.tensors.items():
        group = name.partition("/")[0]
        count[group] += 1
        size[group] += entry.size
        dtypes.setdefault(group, set()).add(entry.dtype)
    return [(name, str(count[name]), ", ".join(sorted(dtypes[name])), _size(size[name])) for name in sorted(count)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned lines; columns of numbers and sizes to the right."""
    lines = [tuple(head), *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = {
        i for i, name in enumerate(head) if name in ("number", "attempt", "step", "epoch", "score", "size", "tensors")
    }
    return "\n".join(
        "  ".join(
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(line)
        ).rstrip()
        for line in lines
    )


def _number(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _size(count: int) -> str:
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


command.add_command(export_command)
command.add_command(import_command)
