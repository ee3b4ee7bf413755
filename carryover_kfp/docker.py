"""Owns runs in containers on this machine: Docker, or podman behind its Docker-compatible socket.

A container is as a pod is on a cluster: no capabilities, a read-only root file system, and a user who is not root,
namely the one who runs the command, so that what it writes into the store is theirs.

kfp's DockerRunner starts containers with auto_remove; podman then removes one before its exit code is read, and kfp
takes the missing answer for success, so that a step which failed is never tried again. Here a container is removed
only after its exit code is known. kfp also leaves an image's own entry point in front of a step's command.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.ground.errors import WrongInput
from carryover_kfp.pod import Pod, amount

# What a step may need from the environment of who starts it: credentials of the store, and the demo's seams.
PASSED_ON = ("AWS_", "S3_", "FSSPEC_", "GOOGLE_APPLICATION_CREDENTIALS", "HF_", "CARRYOVER_", "OMP_NUM_THREADS")
# What stays writable beside the mounted folders; libraries keep caches in the second, the home of the image's user.
WRITABLE = ("/tmp", "/home/carryover")
# Ranks and the workers of a loader hand tensors over in it; an engine's own 64 MiB end in a bus error.
SHARED_MEMORY = "2g"


def make_runner(folders: Sequence[Path], size: Pod | None = None) -> Any:
    """Return kfp's DockerRunner; the given folders are mounted at the same path.

    `size` gives each container its GPUs, its /dev/shm, and what it gets at most of cores and memory.

    Raises:
        WrongInput: when no container engine answers.
    """
    try:
        import docker
        from docker.errors import DockerException
        from docker.types import DeviceRequest, Mount
        from kfp import local
    except ImportError as error:
        raise WrongInput(f"--runner docker needs the Python package 'docker' ({error}): pip install docker") from error
    try:
        client = docker.from_env()
        rootless = "name=rootless" in client.info().get("SecurityOptions", [])
        client.close()
    except DockerException as error:
        raise WrongInput(
            f"--runner docker: no container engine answers ({_short(error)}); start Docker, or podman's socket "
            "(`podman system service --time=0`) and set DOCKER_HOST to it; or use --runner subprocess"
        ) from error
    files = _files(folders)
    mounts = [Mount(target=str(folder), source=str(folder), type="bind") for folder in folders]
    mounts += [Mount(target=str(file), source=str(file), type="bind", read_only=True) for file in files]
    size = size or Pod()
    limits: dict[str, Any] = {"shm_size": int(amount(size.shm)) if size.shm else SHARED_MEMORY}
    if size.gpu:
        limits["device_requests"] = [DeviceRequest(count=size.gpu, capabilities=[["gpu"]])]
    if size.memory_limit:
        limits["mem_limit"] = int(amount(size.memory_limit))
    if size.cpu_limit:
        limits["nano_cpus"] = int(amount(size.cpu_limit) * 1e9)
    return local.DockerRunner(
        mounts=mounts,
        # An engine that belongs to a user calls that user 0 inside.
        user="0:0" if rootless else f"{os.getuid()}:{os.getgid()}",
        read_only=True,
        tmpfs={path: "mode=1777" for path in WRITABLE if Path(path) not in folders},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        **limits,
    )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}


def _files(folders: Sequence[Path]) -> list[Path]:
    """Return the files that the environment names, credentials and certificates, where no mounted folder has them."""
    found = {Path(value) for value in _environment().values() if value.startswith("/") and Path(value).is_file()}
    return sorted(file for file in found if not any(file.is_relative_to(folder) for folder in folders))


@dataclass(frozen=True)
class Container:
    """One container that is about to run.

    Attributes:
        client: the docker client that kfp made.
        options: what `client.containers.run` takes besides image and command.
    """

    client: Any
    image: str
    command: list[str]
    options: dict[str, Any]

    def run(self, show: Callable[[Iterable[str]], None], *, grace: float) -> int:
        """Run to the end and return the exit code; when interrupted, stop it within `grace` seconds. Then remove it."""
        container = self.client.containers.run(
            image=self._present(show),
            # The image's entry point is our command line; a step's command is a shell.
            entrypoint=self.command[:1],
            command=self.command[1:],
            detach=True,
            # What a step sets for itself; kfp puts it in the place of all else.
            **{**self.options, "environment": {**_environment(), **self.options.get("environment", {})}},
        )
        try:
            show(_lines(container.logs(stream=True, follow=True)))
            return int(container.wait()["StatusCode"])
        except BaseException:
            show([f"ending this step; it may save, for {grace:.0f} s at most"])
            _end(container, grace=grace)
            raise
        finally:
            container.remove(force=True)

    def _present(self, show: Callable[[Iterable[str]], None]) -> str:
        """Return the image's full name; it is pulled when it is not here."""
        from docker.errors import ImageNotFound

        named = ":" in self.image.rpartition("/")[2] or "@" in self.image
        image = self.image if named else f"{self.image}:latest"
        try:
            self.client.images.get(image)
        except ImageNotFound:
            show([f"pulling {image}"])
            self.client.images.pull(image)
        return image


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield whole lines of what a container says; an engine cuts it anywhere."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") + "\n" for line in whole)
    if rest:
        yield rest.decode(errors="replace")


def _end(container: Any, *, grace: float) -> None:
    """Tell every process of a container to end and wait for it.

    `stop` would tell process 1 alone, a shell that waits for Python and passes nothing on.
    """
    from docker.errors import APIError
    from requests.exceptions import RequestException

    # It may have ended by itself meanwhile; who outlives the grace is killed when the container is removed.
    with contextlib.suppress(APIError, RequestException):
        container.exec_run(["sh", "-c", "kill -TERM -1"])
        container.wait(timeout=grace)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
