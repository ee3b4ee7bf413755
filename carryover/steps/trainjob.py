"""Owns how a step has a TrainJob train for it: found or made, followed to its end, its end given on as ours.

list by the run's label -- alive ----------------------------> attach
        |                                                         |
        +-- none, failed --> create the next generation -- 409 ---+
                                                                  v
          lease moves on; state, pods and node 0's log are shown until it is
              complete   the finish record in the store is the result
              failed     the pods' exit code is ours; what nobody waited for goes on as the next generation
              deleted    75: the same command makes it again
              we stop    75: the job trains on, the same command attaches to it again
"""

import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from carryover.checkpoint.lease import Hold, forget, is_given_up
from carryover.ground import last_words
from carryover.ground.console import pass_on, say, warn
from carryover.ground.errors import CarryoverError, NoProgress, RunAgain, Superseded, WrongInput
from carryover.launch import trainjob as jobs
from carryover.launch.cluster import Cluster, Exists, NotThere, Unreachable
from carryover.launch.follow_log import NodeLog
from carryover.launch.job import JobSettings, image_of
from carryover.launch.ranks import on_stop_signal
from carryover.launch.trainjob import Phase, State
from carryover.steps.plan import Plan

_LOOK_EVERY_SECONDS = 2.0
# So long a cluster may not answer, e.g. while its control plane is updated.
_PATIENCE_SECONDS = 600.0
_TRIES = 10
_SHOWN_LINES = 5
_ERRORS = {error.exit_code: error for error in (WrongInput, RunAgain, Superseded, NoProgress)}


@dataclass(frozen=True)
class Asked:
    """What is asked of a cluster: a run's job, all generations of it.

    Attributes:
        base: name without the generation.
        owner: of the run, while a pod trains it.
    """

    cluster: Cluster
    settings: JobSettings
    spec: dict[str, Any]
    base: str
    run_key: str
    owner: str


def ask(plan: Plan, settings: JobSettings, command: Sequence[str], *, nodes: int, ranks: int, owner: str) -> Asked:
    """Return what to ask of a cluster; nothing is made yet."""
    cluster = Cluster(settings.namespace)
    spec = jobs.spec_of(settings, image_of(settings), command, nodes=nodes, ranks=ranks)
    base = jobs.base_name(plan.run_key, spec)
    return Asked(cluster, settings, spec, base, plan.run_key, owner or f"trainjob:{cluster.namespace}/{base}")


def train_by_job(plan: Plan, asked: Asked) -> None:
    """Have the job train the run to its end.

    Raises:
        CarryoverError: with the exit code of what ended the job.
    """
    while True:
        job = _attached_or_made(asked)
        name, lease = job["metadata"]["name"], jobs.lease_of(job)
        with (
            on_stop_signal(lambda name=name: _stop(name, asked)),
            Hold(plan.home.store, lease, asked.settings.lease_seconds),
        ):
            watch = _Watch(asked.cluster, name)
            state = watch.until_it_ends()
        if state.phase is Phase.COMPLETE:
            forget(plan.home.store, lease)
            return
        if state.phase is Phase.GONE:
            raise RunAgain(f"TrainJob {name} {state.words}; the same command makes the next one", trouble="step-failed")
        node, code = jobs.ended_by(watch.codes)
        given_up = is_given_up(plan.home.store, lease)
        forget(plan.home.store, lease)
        if not given_up:
            words = watch.last_words(node)
            last = "".join(f"\n  {line}" for line in words)
            raise _ERRORS.get(code, CarryoverError)(
                f"TrainJob {name} {state.words}; node {node} ended with {code}{last}",
                trouble=last_words.told(words) or "step-failed",
            )
        say(f"TrainJob {name} had ended because nobody waited for it: the next one goes on")


def _stop(name: str, asked: Asked) -> None:
    raise RunAgain(
        f"stopped; TrainJob {name} trains on, and the same command attaches to it again. Without anybody it saves and "
        f"ends after {asked.settings.lease_seconds} s; to end it now: kubectl delete trainjob -n "
        f"{asked.cluster.namespace} {name}",
        trouble="preempted",
    )


def _attached_or_made(asked: Asked) -> dict[str, Any]:
    for _ in range(_TRIES):
        there = asked.cluster.jobs(jobs.RUN_KEY_LABEL, jobs.label_of(asked.run_key))
        own = {jobs.generation_of(asked.base, job["metadata"]["name"]): job for job in there}
        for name in _others(asked, there):
            warn(f"TrainJob {name} trains this run too, asked for in another way; this one waits until that ends")
        newest = max(own, default=0)
        if newest and jobs.state_of(own[newest]).phase is Phase.ALIVE:
            say(f"attached to TrainJob {asked.cluster.namespace}/{own[newest]['metadata']['name']}")
            return own[newest]
        try:
            return _made(asked, newest + 1)
        except Exists:
            # Somebody who asks for the same was faster, or one of that name is not gone yet.
            time.sleep(_LOOK_EVERY_SECONDS)
    raise RunAgain(
        f"TrainJob {asked.base}: is neither there nor can it be made; the same command tries again", trouble="busy"
    )


def _others(asked: Asked, there: Sequence[dict[str, Any]]) -> list[str]:
    names = {job["metadata"]["name"]: job for job in there if jobs.state_of(job).phase is Phase.ALIVE}
    return [name for name in names if not jobs.generation_of(asked.base, name)]


def _made(asked: Asked, generation: int) -> dict[str, Any]:
    # A job of this name may have been deleted; its lease must not end this one.
    lease = f"{asked.base}-{generation}-{uuid.uuid4().hex[:8]}"
    job = jobs.trainjob(
        asked.base, generation, asked.spec, asked.settings, run_key=asked.run_key, owner=asked.owner, lease=lease
    )
    made = asked.cluster.create_job(job)
    say(f"made TrainJob {asked.cluster.namespace}/{made['metadata']['name']}")
    return made


@dataclass
class _Watch:
    """What was seen of one job."""

    cluster: Cluster
    name: str
    codes: dict[int, int | None] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)
    _pods: dict[int, jobs.Pod] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = NodeLog(self.cluster, pass_on)

    def until_it_ends(self) -> State:
        """Show what happens until the job has ended.

        Raises:
            Unreachable: when the cluster does not answer for long.
        """
        answered_at = time.monotonic()
        while True:
            try:
                # Pods first: of a job that has ended, all that they say is then known.
                self._look_at_pods()
                state = jobs.state_of(self.cluster.job(self.name))
                answered_at = time.monotonic()
            except NotThere:
                self.log.close()
                return State(Phase.GONE, "was deleted")
            except Unreachable as error:
                if time.monotonic() - answered_at > _PATIENCE_SECONDS:
                    raise
                self._say("", f"{error}; asking again")
                time.sleep(_LOOK_EVERY_SECONDS)
                continue
            self._say("", state.words)
            if state.phase is not Phase.ALIVE:
                self._look_at_pods()
                self.log.close()
                return state
            time.sleep(_LOOK_EVERY_SECONDS)

    def last_words(self, node: int) -> list[str]:
        """Return the last lines of a node whose pod has ended; none where that is gone."""
        lines = self.log.tail
        if node:
            try:
                # "TIME words" each.
                said = self.cluster.log(self._pods[node].name, since_seconds=0)
                lines = deque((line.partition(" ")[2] for line in said), maxlen=_SHOWN_LINES)
            except CarryoverError:
                return []
        return list(lines)[-_SHOWN_LINES:]

    def _look_at_pods(self) -> None:
        for node, pod in sorted(jobs.pods_of(self.cluster.pods(self.name)).items()):
            if node in self._pods and self._pods[node].uid != pod.uid:
                self._say(f"node {node}", "started again")
            self._pods[node] = pod
            self.codes[node] = pod.exit_code
            self._say(f"node {node}", pod.words)
            if node == 0:
                self.log.see(pod)

    def _say(self, who: str, words: str) -> None:
        if self._said.get(who) != words:
            self._said[who] = words
            say(f"TrainJob {self.name}: {f'{who}: ' if who else ''}{words}")
