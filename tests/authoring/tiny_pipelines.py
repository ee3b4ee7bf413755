"""Small pipelines of real processes, to see how a run on this machine treats steps that fail, are killed, or wait."""
# kfp reads the annotations of a component as values.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportReturnType=false

import sys
from pathlib import Path
from typing import NamedTuple

from kfp import dsl

from carryover_kfp.retries import uncached, with_preemption


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def attempt(folder: str, code: int, artifact: dsl.Output[dsl.Artifact]) -> NamedTuple("Outputs", [("folder", str)]):
    """Exit with `code`, but go through from the third attempt on (code -9: SIGKILL of the own group)."""
    import os
    import signal

    with open(os.path.join(folder, "attempts"), "a+") as file:
        file.write(f"{os.getpid()}\n")
        file.seek(0)
        attempts = len(file.readlines())
    print(f"attempt {attempts} in {folder}")
    if attempts < 3 and code == -9:
        os.killpg(0, signal.SIGKILL)
    if attempts < 3 and code:
        raise SystemExit(code)
    os.makedirs(artifact.path)
    return (folder,)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def wait(folder: str):
    """Start a child in a session of its own, as torchrun starts ranks, and wait for ever."""
    import os
    import subprocess
    import time

    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    with open(os.path.join(folder, "pids.tmp"), "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(os.path.join(folder, "pids.tmp"), os.path.join(folder, "pids"))
    time.sleep(1000)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def leave(folder: str):
    """End well, but leave a child behind."""
    import os
    import subprocess

    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    with open(os.path.join(folder, "pids"), "w") as file:
        file.write(str(child.pid))


@dsl.pipeline(name="attempts")
def attempts(folder: str, code: int) -> str:
    """One step that fails twice."""
    task = with_preemption(attempt(folder=folder, code=code), retries=3)
    task.set_retry(3, backoff_duration="0s", backoff_max_duration="604800s")
    return task.outputs["folder"]


@dsl.pipeline(name="once")
def once(folder: str, code: int):
    """One step that fails, and is not retried."""
    uncached(attempt(folder=folder, code=code))


@dsl.pipeline(name="waits")
def waits(folder: str):
    """One step that never ends."""
    uncached(wait(folder=folder))


@dsl.pipeline(name="leaves")
def leaves(folder: str):
    """One step that leaves a child."""
    uncached(leave(folder=folder))


if __name__ == "__main__":
    from carryover_kfp.local import run_here

    run_here(waits, {"folder": sys.argv[1]}, root=Path(sys.argv[1]) / "root")
