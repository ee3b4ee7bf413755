"""One engine and one image for all tests of images: building takes minutes where nothing is cached."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.images import podman as engine


@pytest.fixture(scope="session")
def podman() -> Iterator[engine.Podman]:
    """Podman with the target cpu built; skips where podman can't run."""
    started = engine.start()
    authorities = os.environ.get("SSL_CERT_FILE", "")
    secrets = {"ca": authorities} if authorities and Path(authorities).is_file() else {}
    yield replace(started, image=engine.build_cpu(started, secrets=secrets))
    shutil.rmtree(started.folder, ignore_errors=True)
