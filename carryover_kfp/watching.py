"""Owns who tries a failed run of KFP again: KFP itself does not where a pod was deleted with its node.

    run FAILED --final_reason?--> never again: terminated, preflight, its attempts end at once, bound reached
               --pause--> RetryRun: same run, same steps, only those that failed; training goes on from its last commit

All that is counted stands in the run itself (its state_history), so that whoever watches may be restarted at any time.
The server tells no exit codes: KFP's launcher makes each of them 1.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from carryover.ground.errors import CarryoverError, WrongInput
from carryover_kfp import remote
from carryover_kfp.remote import Server, connection, marked, speaking_to

FAILED, SUCCEEDED, RUNNING = "FAILED", "SUCCEEDED", "RUNNING"
STOPPED = ("CANCELING", "CANCELED")
ENDED = (SUCCEEDED, "SKIPPED", FAILED, "CANCELED")
LONGEST_PAUSE = 600.0
# An attempt that ends this soon did not train: wrong input and no progress end before torch is loaded.
AT_ONCE_SECONDS = 60.0
AT_ONCE_TIMES = 3
# How long a server may be away before whoever follows a run gives up.
PATIENCE_SECONDS = 3600.0
_PAGE = 100
_ATTEMPT = re.compile(r"executor\(\d+\)")
_NO_STEP = re.compile(r"executor.*|.*-driver|root|iteration-.*")


@dataclass(frozen=True)
class Seen:
    """A run as the server shows it.

    Attributes:
        retries: how often it was tried again so far, by whomever.
        steps: name -> state, in the order in which they started.
        stopped: whether a person terminated it, after which it may say FAILED.
        at_once: whether its last attempts all failed within a minute.
        watched: how often a watcher may retry it, 0 for never; of a scheduled run the schedule says it.
    """

    run_id: str
    name: str
    state: str
    retries: int
    steps: Mapping[str, str]
    stopped: bool
    at_once: bool
    watched: int
    schedule_id: str = ""

    def line(self) -> str:
        """Return its state and those of its steps, as one line."""
        steps = ", ".join(f"{name} {state}" for name, state in self.steps.items())
        return f"{self.state:<9}  {steps}".rstrip()


@dataclass(frozen=True)
class Pace:
    """How often one looks, and how long one waits before a retry: twice as long each time, ten minutes at most."""

    every: float = 30.0
    pause: float = 30.0

    def wait(self, retries: int) -> float:
        """Return the seconds to wait before the next retry of a run that had so many."""
        return min(self.pause * 2.0 ** min(retries, 30), max(self.pause, LONGEST_PAUSE))


def read_run(run: Any) -> Seen:
    """Return what matters of a run from the generated client's form of it."""
    history = [entry.state for entry in run.state_history or []]
    state = run.state or "PENDING"
    tasks = (run.run_details.task_details if run.run_details else None) or []
    # The stretch since the last retry: a run that was terminated once, and retried by a person, is alive again.
    before = history[:-1] if history and history[-1] == state else history
    start = max((number for number, one in enumerate(before) if one == FAILED), default=-1)
    return Seen(
        run_id=run.run_id,
        name=run.display_name or run.run_id,
        state=state,
        retries=before.count(FAILED),
        steps=_steps(run, tasks),
        stopped=state == "CANCELED" or any(one in STOPPED for one in before[start + 1 :]),
        at_once=_ended_at_once(tasks),
        watched=marked(run.description),
        schedule_id=run.recurring_run_id or "",
    )


def _steps(run: Any, tasks: list[Any]) -> dict[str, str]:
    """Return name -> state of the pipeline's own tasks: Argo's list also has drivers, attempts and the whole."""
    known = _names(run.pipeline_spec or {})
    found: dict[str, str] = {}
    for task in sorted(tasks, key=lambda task: task.create_time or datetime.min.replace(tzinfo=UTC)):
        name = task.display_name or ""
        if name in known if known else name and not _NO_STEP.fullmatch(name):
            found[name] = task.state or "PENDING"
    return found


def _names(package: Mapping[str, Any]) -> set[str]:
    spec = package.get("pipeline_spec", package)
    dags = [spec.get("root", {}), *spec.get("components", {}).values()]
    return {name for one in dags for name in one.get("dag", {}).get("tasks", {})}


def _ended_at_once(tasks: list[Any]) -> bool:
    attempts = [task for task in tasks if _ATTEMPT.fullmatch(task.display_name or "") and task.state == FAILED]
    timed = [task for task in attempts if task.start_time and task.end_time and task.end_time >= task.start_time]
    last = sorted(timed, key=lambda task: task.start_time)[-AT_ONCE_TIMES:]
    short = timedelta(seconds=AT_ONCE_SECONDS)
    return len(last) == AT_ONCE_TIMES and all(task.end_time - task.start_time <= short for task in last)


def final_reason(seen: Seen, most: int) -> str:
    """Return why a failed run must not be tried again, "" where it may."""
    if seen.stopped:
        return "somebody terminated it"
    if seen.steps.get("preflight") == FAILED:
        return "its preflight failed; that step's log says what to mend, then submit it anew"
    if seen.at_once:
        return (
            f"the last {AT_ONCE_TIMES} attempts of a step ended within {AT_ONCE_SECONDS:.0f} s each, as wrong input "
            "does; the step's log says why; `carryover retry` tries it all the same"
        )
    if seen.retries >= most:
        return f"it was tried again {seen.retries} times, and {most} are allowed"
    return ""


def get_run(server: Server, run_id: str) -> Seen:
    """Return a run as it is now.

    Raises:
        WrongInput: when there is none, or the server refuses.
        CarryoverError: when the server is not there.
    """
    import kfp_server_api

    with speaking_to(server):
        return read_run(kfp_server_api.RunServiceApi(connection(server)).run_service_get_run(run_id))


def follow(server: Server, run_id: str, *, most: int, pace: Pace, say: Callable[[str], None]) -> Seen:
    """Say each change of a run, try it again where it failed and may be, and return how it ended.

    Raises:
        WrongInput: when there is no such run, or the server refuses.
        CarryoverError: when the server is away for an hour, or from the start.
    """
    seen = get_run(server, run_id)
    say(seen.line())
    away_since = 0.0
    while True:
        try:
            if seen.state == FAILED:
                if why := final_reason(seen, most):
                    say(f"not tried again: {why}")
                    return seen
                wait = pace.wait(seen.retries)
                say(f"retry {seen.retries + 1} of {most} in {wait:.0f} s")
                time.sleep(wait)
                _retry(server, run_id)
            elif seen.state in ENDED:
                return seen
            else:
                time.sleep(pace.every)
            shown, seen = seen.line(), get_run(server, run_id)
            away_since = 0.0
        except WrongInput:
            raise
        except CarryoverError:
            # A watch lasts for days, and a server is upgraded meanwhile.
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_SECONDS:
                raise
            time.sleep(pace.every)
            continue
        if seen.line() != shown:
            say(seen.line())


def _retry(server: Server, run_id: str) -> bool:
    """Try a run again; False where somebody else was quicker.

    Raises:
        WrongInput: when the server refuses and the run is still failed.
        CarryoverError: when the server is not there.
    """
    try:
        remote.retry(server, run_id)
    except WrongInput:
        if get_run(server, run_id).state == FAILED:
            raise
        return False
    return True


@dataclass
class Watcher:
    """Looks after all marked runs of a server.

    Attributes:
        days: runs that were made before are left alone.
        waiting: run and its retries so far -> when it is due; a restart only means that a pause begins anew.
    """

    server: Server
    pace: Pace
    days: float
    say: Callable[[str], None]
    waiting: dict[tuple[str, int], float] = field(default_factory=dict)
    said: set[tuple[str, str]] = field(default_factory=set)

    def look(self, *, at_once: bool = False) -> None:
        """Look once, and retry what is due; with `at_once` everything is.

        Raises:
            WrongInput: when the server refuses to list runs.
            CarryoverError: when the server is not there.
        """
        # All of them first: who is retried is in no further page, and the pages move up.
        for listed in list(failed_runs(self.server, days=self.days)):
            most = listed.watched or self._watched_by_schedule(listed.schedule_id)
            if most:
                try:
                    self._look_at(listed, most, at_once=at_once)
                except CarryoverError as error:
                    # One run that can't be retried must not keep the watcher from the others.
                    self._say_once(listed, str(error))

    def _look_at(self, listed: Seen, most: int, *, at_once: bool) -> None:
        # A list does not have to tell the steps.
        seen = get_run(self.server, listed.run_id)
        if seen.state != FAILED:
            return
        if why := final_reason(seen, most):
            self._say_once(seen, f"not tried again: {why}")
            return
        key, now = (seen.run_id, seen.retries), time.monotonic()
        due = self.waiting.setdefault(key, now + (0.0 if at_once else self.pace.wait(seen.retries)))
        if now >= due and _retry(self.server, seen.run_id):
            del self.waiting[key]
            self.say(f"{seen.run_id}  {seen.name}: retry {seen.retries + 1} of {most}")

    def _watched_by_schedule(self, schedule_id: str) -> int:
        if not schedule_id:
            return 0
        import kfp_server_api

        try:
            with speaking_to(self.server):
                api = kfp_server_api.RecurringRunServiceApi(connection(self.server))
                schedule: Any = api.recurring_run_service_get_recurring_run(schedule_id)
                return marked(schedule.description)
        except WrongInput:
            # Removed meanwhile; with it went the word that its runs are to be retried.
            return 0

    def _say_once(self, seen: Seen, text: str) -> None:
        if (seen.run_id, text) not in self.said:
            self.said.add((seen.run_id, text))
            self.say(f"{seen.run_id}  {seen.name}: {text}")


def failed_runs(server: Server, *, days: float) -> Iterator[Seen]:
    """Yield the failed runs of the last days that are not archived, the newest first."""
    import kfp_server_api

    wanted = {"predicates": [{"operation": "EQUALS", "key": "state", "string_value": FAILED}]}
    oldest, token = datetime.now(UTC) - timedelta(days=days), ""
    while True:
        with speaking_to(server):
            found: Any = kfp_server_api.RunServiceApi(connection(server)).run_service_list_runs(
                namespace=server.namespace or "",
                page_size=_PAGE,
                page_token=token,
                sort_by="created_at desc",
                filter=json.dumps(wanted),
            )
        for run in found.runs or []:
            if run.created_at and run.created_at < oldest:
                return
            if run.storage_state != "ARCHIVED" and run.state == FAILED:
                yield read_run(run)
        token = found.next_page_token or ""
        if not token:
            return
