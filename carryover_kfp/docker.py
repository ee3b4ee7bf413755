"""Owns runs in containers on this machine: Docker, or podman behind its Docker-compatible socket.

kfp's DockerRunner starts containers with auto_remove; podman then removes one before its exit code is read, and kfp
takes the missing answer for success, so that a step which failed is never tried again. Here a container is removed
only after its exit code is known.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carryover.ground.errors import WrongInput

# What a step may need from the environment of who starts it: credentials of the store, and the demo's seams.
PASSED_ON = ("AWS_", "S3_", "FSSPEC_", "GOOGLE_APPLICATION_CREDENTIALS", "HF_", "CARRYOVER_", "OMP_NUM_THREADS")


def make_runner(folders: Sequence[Path]) -> Any:
    """Return kfp's DockerRunner; the given folders are mounted at the same path.

    Raises:
        WrongInput: when no container engine answers.
    """
    try:
        import docker
        from docker.errors import DockerException
        from docker.types import Mount
        from kfp import local
    except ImportError as error:
        raise WrongInput(f"--runner docker needs the Python package 'docker' ({error}): pip install docker") from error
    try:
        client = docker.from_env()
        client.ping()
        client.close()
    except DockerException as error:
        raise WrongInput(
            f"--runner docker: no container engine answers ({_short(error)}); start Docker, or podman's socket "
            "(`podman system service --time=0`) and set DOCKER_HOST to it; or use --runner subprocess"
        ) from error
    mounts = [Mount(target=str(folder), source=str(folder), type="bind") for folder in folders]
    environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    return local.DockerRunner(mounts=mounts, environment=environment)


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

    def run(self, show: Callable[[str], None], *, grace: float) -> int:
        """Run to the end and return the exit code; when interrupted, stop it within `grace` seconds. Then remove it."""
        container = self.client.containers.run(
            image=self._present(show), command=self.command, detach=True, **self.options
        )
        try:
            for line in container.logs(stream=True, follow=True):
                show(line.decode(errors="replace"))
            return int(container.wait()["StatusCode"])
        except BaseException:
            container.stop(timeout=int(grace))
            raise
        finally:
            container.remove(force=True)

    def _present(self, show: Callable[[str], None]) -> str:
        """Return the image's full name; it is pulled when it is not here."""
        from docker.errors import ImageNotFound

        named = ":" in self.image.rpartition("/")[2] or "@" in self.image
        image = self.image if named else f"{self.image}:latest"
        try:
            self.client.images.get(image)
        except ImageNotFound:
            show(f"pulling {image}")
            self.client.images.pull(image)
        return image


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
