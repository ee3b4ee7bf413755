"""Owns how a task of a pipeline survives preemption: how often it is tried again, for how long, and in what pod.

A pipeline's function is run once more under a profile (see compiling.py); what it says of a step's pod is written into
the task here, where every task of every pipeline passes by. Without a profile nothing is.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from kfp import dsl

if TYPE_CHECKING:
    # Pipelines are compiled where only kfp is installed, and profiles are read with the runtime's configuration.
    from carryover_kfp.pod import Pod
    from carryover_kfp.profile import Profile

RETRIES = 20
# Argo counts this from the start of the FIRST attempt, and kills a retry that runs when it is over. The default of
# one hour would mean that a training step that fails after an hour is never tried again.
LONGEST = "604800s"
# A steady short wait: a preempted pod waits for its next machine in the scheduler's queue, not here.
WAIT, GROWTH = "5s", 1.0

_profile: ContextVar["Profile | None"] = ContextVar("profile", default=None)


@contextlib.contextmanager
def traced_under(profile: "Profile") -> Iterator[None]:
    """Let all tasks that are made meanwhile be as a profile says."""
    token = _profile.set(profile)
    try:
        yield
    finally:
        _profile.reset(token)


def with_preemption(task: dsl.PipelineTask, *, retries: int = RETRIES) -> dsl.PipelineTask:
    """Let `task` be tried again after a failure, for a week or as the profile says; never cached."""
    pod = _pod(task)
    times, longest = (pod.retries, f"{round(pod.retry_seconds)}s") if pod else (retries, LONGEST)
    if times:
        task.set_retry(times, backoff_duration=WAIT, backoff_factor=GROWTH, backoff_max_duration=longest)
    return uncached(task)


def uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Never answer `task` from KFP's cache, which sees neither new files behind a URI nor new code in an image."""
    task.set_caching_options(False)
    if pod := _pod(task):
        from carryover_kfp.pod import apply

        apply(pod, task)
    return task


def _pod(task: dsl.PipelineTask) -> "Pod | None":
    profile = _profile.get()
    return profile.pod(task.component_spec.name.replace("-", "_")) if profile else None
