"""The stores that checkpoint tests run on, and one small run to save.

Every test that takes `store` or `home` runs on all three kinds; on S3 in `make test-slow` only, as a hundred of them
take minutes there. What can differ on S3 is in test_s3.py and runs every time.
"""

import uuid
from pathlib import Path

import pytest

from carryover.checkpoint.home import RunHome
from carryover.ground.storage import Store, open_store


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "s3":
        return open_store(request.getfixturevalue("s3_store_uri"))
    return open_store(str(tmp_path / "store") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def home(store: Store) -> RunHome:
    """A run that has started, in each kind of store."""
    home = RunHome.open(store, "key")
    home.start({"recipe": {"seed": 1}})
    return home


@pytest.fixture
def s3_home(s3_store_uri: str) -> RunHome:
    """A run that has started, on the S3 server."""
    home = RunHome.open(open_store(s3_store_uri), "key")
    home.start({"recipe": {"seed": 1}})
    return home


@pytest.fixture
def local(tmp_path: Path) -> RunHome:
    """A run that has started, in a local store."""
    home = RunHome.open(open_store(str(tmp_path / "store")), "key")
    home.start({"recipe": {"seed": 1}})
    return home
