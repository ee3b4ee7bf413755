"""Owns runs on this machine: a pipeline through kfp.local, each step in a process group of its own.

kfp.local does the orchestration (order of tasks, retries, artifacts). Two of its private functions are replaced while
a pipeline runs, because as they are
- `replace_python_executable` also rewrites "python3" inside arguments, so a path such as lib/python3.11/... breaks;
- `run_local_subprocess` leaves the step alive when this process is told to end, and retries what can't succeed.
"""

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from carryover.ground import console
from carryover.ground.errors import CarryoverError, NoProgress, RunAgain, Superseded, WrongInput
from carryover_kfp import docker, processes
from carryover_kfp.compiling import write_compiled
from carryover_kfp.pod import Pod

# A training step uses it to save; what lives on after it is killed.
GRACE_SECONDS = 30.0
# The same command can't succeed a moment later, so trying again would only bury the one clear error.
FINAL = {kind.exit_code: kind for kind in (WrongInput, NoProgress, Superseded)}

# A path as a value in a recipe's YAML or after the "=" of a setting.
_NAMED = re.compile(r"""(?:^|[\s=:'"\[,])(/[^\s'",\]]+)""")


@dataclass
class Screen:
    """What people see of a local run: each step's name, its own lines, and how it ended."""

    out: IO[str]
    total: int
    attempts: dict[str, int] = field(default_factory=dict)
    last_code: int = 0

    def start(self, step: str) -> None:
        """Announce one attempt of a step."""
        self.attempts[step] = self.attempts.get(step, 0) + 1
        again = f" (attempt {self.attempts[step]})" if self.attempts[step] > 1 else ""
        self._say(f"\n[{len(self.attempts)}/{self.total}] {step}{again}")

    def line(self, text: str) -> None:
        """Show one line that the step itself wrote."""
        if console.is_json():
            console.pass_on(text.rstrip())
        else:
            self._say(f"      {text.rstrip()}")

    def end(self, step: str, code: int, seconds: float) -> None:
        """Say how one attempt of a step ended."""
        self.last_code = code
        how = "done" if code == 0 else f"failed: {_reason(code)}"
        self._say(f"      {how} after {seconds:.1f} s")

    def _say(self, text: str) -> None:
        if console.is_json():
            console.say(text.strip())
            return
        self.out.write(text + "\n")
        self.out.flush()


def _reason(code: int) -> str:
    # A shell reports a child's death by signal as 128 + its number, Popen as minus the number.
    number = -code if code < 0 else code - 128
    if 0 < number < signal.NSIG:
        return f"killed by {signal.Signals(number).name}"
    return f"exit code {code}"


@dataclass(frozen=True)
class Finished:
    """A local run that went through: what the pipeline returned, and where KFP's artifacts lie."""

    outputs: Mapping[str, Any]
    folder: Path


def run_here(
    pipeline: Any,
    arguments: Mapping[str, Any],
    *,
    root: Path,
    runner: str = "subprocess",
    image: str = "",
    size: Pod | None = None,
) -> Finished:
    """Run `pipeline` on this machine and wait for it.

    Args:
        pipeline: a KFP graph component.
        arguments: its typed parameters.
        root: folder for the artifacts of local runs, one folder a run in it.
        runner: "subprocess" (the Python that runs this) or "docker" (containers).
        image: the image of all steps, for "docker"; empty for the one in the code.
        size: what each container gets, for "docker".

    Raises:
        CarryoverError: when a step failed for good, with that step's exit code.
    """
    from kfp import components, local

    folder = root.absolute()
    # In it kfp makes a folder of its own, named by the pipeline and the time again.
    run = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    run.mkdir(parents=True)
    write_compiled(pipeline, run / "pipeline.yaml", image=image)
    loaded = components.load_component_from_file(str(run / "pipeline.yaml"))
    screen = Screen(sys.stdout, total=count_steps(loaded.pipeline_spec))
    if runner == "docker":
        chosen = docker.make_runner(_mounts(arguments), size)
    else:
        chosen = local.SubprocessRunner(use_venv=False)
    # The workspace is removed at the end of each run: it stays where kfp puts it, in a temporary folder of its own.
    local.init(chosen, pipeline_root=str(run))
    log = run / "kfp.log"
    with _replaced(screen, runner), _quiet(log), _ended_by_signals():
        try:
            task = loaded(**arguments)
        except RuntimeError as error:
            raise _failure(error, screen.last_code, log) from error
    return Finished(outputs=task.outputs, folder=run)


def count_steps(spec: Any) -> int:
    """Return how many steps a run of a compiled pipeline takes at most: of an If and its Else, the longer one."""

    def count(dag: Any) -> list[int]:
        return [one(name, spec.components[task.component_ref.name]) for name, task in dag.tasks.items()]

    def one(name: str, component: Any) -> int:
        if not component.HasField("dag"):
            return 1
        # kfp's own name for what holds the branches.
        return (max if name.startswith("condition-branches") else sum)(count(component.dag))

    return sum(count(spec.root.dag))


def _failure(error: RuntimeError, code: int, log: Path) -> CarryoverError:
    text = f"the pipeline ended: a step {_reason(code)} at its last attempt; kfp's own log is {log}"
    if code == 0:
        text = f"the pipeline ended: {error}; kfp's own log is {log}"
    if code == RunAgain.exit_code:
        return RunAgain(text, trouble="step-failed")
    return CarryoverError(text, trouble="step-failed")


def _mounts(arguments: Mapping[str, Any]) -> list[Path]:
    """Return the local folders that a container must see: those that an argument names, and those in a recipe.

    A pattern means the folder above it, a file the folder it lies in. What a recipe or a setting names must be there.
    """
    folders: set[Path] = set()
    for value in arguments.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.startswith("/") and "\n" not in text:
                folders.add(next(path for path in (Path(text), *Path(text).parents) if path.exists()))
            elif isinstance(text, str):
                folders |= {Path(found) for found in _NAMED.findall(text) if Path(found).exists()}
    return sorted({path if path.is_dir() else path.parent for path in folders} - {Path("/")})


@contextlib.contextmanager
def _replaced(screen: Screen, runner: str) -> Iterator[None]:
    """Put our own functions in the place of kfp's private ones for a while; see the module."""
    from kfp.local import subprocess_task_handler

    def run_process(full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
        return _attempt(screen, full_command, lambda show: _run_process(full_command, env_vars or {}, show))

    def run_container(client: Any, image: str, command: list[str], volumes: Any, **options: Any) -> int:
        container = docker.Container(client, image, command, {"volumes": volumes, **options})
        return _attempt(
            screen, command, lambda show: container.run(lambda lines: _show(lines, show), grace=GRACE_SECONDS)
        )

    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (subprocess_task_handler, "replace_python_executable", _replace_python),
        (subprocess_task_handler, "run_local_subprocess", run_process),
    ]
    if runner == "docker":
        from kfp.local import docker_task_handler

        places.append((docker_task_handler, "run_docker_container", run_container))
    old = [(module, name, getattr(module, name)) for module, name, _ in places]
    try:
        for module, name, function in places:
            setattr(module, name, function)
        yield
    finally:
        for module, name, function in old:
            setattr(module, name, function)


def _replace_python(full_command: list[str], new_executable: str) -> list[str]:
    """Replace "python3" by this Python in the shell script only: never in the step's code or its arguments."""
    shell, flags, script, *rest = full_command
    return [shell, flags, script.replace("python3", f'"{new_executable}"'), *rest]


def _attempt(screen: Screen, command: list[str], run: Callable[[Callable[[str], None]], int]) -> int:
    """Run one attempt of a step, show it, and return its exit code.

    Raises:
        CarryoverError: for a code that no further attempt can change.
    """
    step = _step_name(command)
    screen.start(step)
    began = time.monotonic()
    code = run(screen.line)
    screen.end(step, code, time.monotonic() - began)
    if code in FINAL:
        raise FINAL[code](
            f"step '{step}' ended with exit code {code}; its last lines above say why", trouble="step-failed"
        )
    return code


def _run_process(full_command: list[str], env_vars: Mapping[str, str], show: Callable[[str], None]) -> int:
    """Run a step's command and return its exit code; nothing of it is left alive."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        full_command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        bufsize=1,
        env={**os.environ, **env_vars, processes.MARK: mark},
        # A group of its own: Ctrl-C reaches us alone, and we end the step in good order.
        start_new_session=True,
    )

    def alive() -> set[int]:
        return processes.members(mark, process.pid)

    reader = threading.Thread(target=_show, args=(process.stdout, show), daemon=True)
    reader.start()
    try:
        code = process.wait()
    except BaseException:
        show(f"ending this step; it may save, for {GRACE_SECONDS:.0f} s at most")
        try:
            processes.end(process.pid, alive, grace=GRACE_SECONDS)
        finally:
            # A second signal means: at once.
            processes.kill(alive)
            process.wait()
        raise
    # Whatever an attempt leaves behind would write next to the attempt that follows.
    processes.kill(alive)
    reader.join(timeout=5)
    return code


def _show(lines: Iterable[str] | None, show: Callable[[str], None]) -> None:
    """Show a step's own lines; kfp's executor also writes what it is about to do, and its whole input as JSON."""
    inside_input = False
    for line in lines or ():
        if line.startswith("[KFP Executor"):
            inside_input = line.rstrip().endswith("Got executor_input:")
        elif inside_input:
            inside_input = line.rstrip() != "}"
        elif line.strip():
            show(line)


def _step_name(full_command: list[str]) -> str:
    """Return the task's name: kfp writes the path of its folder into the executor input."""
    text = full_command[full_command.index("--executor_input") + 1]
    return Path(json.loads(text)["outputs"]["outputFile"]).parent.name


@contextlib.contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """Send kfp's own chatter to a file; our screen holds the real stdout already."""
    level, handlers = logging.getLogger().level, logging.getLogger().handlers[:]
    try:
        with open(path, "w", encoding="utf-8") as log, contextlib.redirect_stdout(log), warnings.catch_warnings():
            # "image has no 'python' in its name", and settings of the cluster that mean nothing here.
            warnings.simplefilter("ignore")
            yield
    finally:
        # kfp restores these only when nothing was raised through it.
        logging.getLogger().setLevel(level)
        logging.getLogger().handlers[:] = handlers


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an ordinary exit, so that a step is ended before we are."""

    def leave(number: int, _frame: Any) -> None:
        sys.exit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    old = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
