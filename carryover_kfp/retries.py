"""Owns how a task of a pipeline survives preemption: how often it is tried again, and for how long."""

from kfp import dsl

RETRIES = 20
# Argo counts this from the start of the FIRST attempt, and kills a retry that runs when it is over. The default of
# one hour would mean that a training step that fails after an hour is never tried again.
LONGEST = "604800s"
# A steady short wait: a preempted pod waits for its next machine in the scheduler's queue, not here.
WAIT, GROWTH = "5s", 1.0


def with_preemption(task: dsl.PipelineTask, *, retries: int = RETRIES) -> dsl.PipelineTask:
    """Let `task` be tried again after a failure, for a week, and never answer it from KFP's cache."""
    task.set_retry(retries, backoff_duration=WAIT, backoff_factor=GROWTH, backoff_max_duration=LONGEST)
    return uncached(task)


def uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Never answer `task` from KFP's cache, which sees neither new files behind a URI nor new code in an image."""
    task.set_caching_options(False)
    return task
