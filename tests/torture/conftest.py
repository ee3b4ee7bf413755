"""The two stores that torture runs on, and the data that is trained on."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from carryover.data.manifest import DatasetCard
from tests.support.s3_server import S3Server


@dataclass(frozen=True)
class Place:
    """Where runs go, and what that is called in the results."""

    uri: str
    kind: str


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder on the local disk, and a prefix on the S3 server."""
    if request.param == "local":
        return Place(str(tmp_path / "store"), "local disk")
    server: S3Server = request.getfixturevalue("s3_server")
    return Place(request.getfixturevalue("s3_store_uri"), f"S3 ({'Ceph' if server.kind == 'ceph' else 'moto'})")


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    """Return a small table, prepared."""
    # Not above: it imports torch, which most of torture does without.
    from tests.train.attempts import dataset

    return dataset(tmp_path_factory.mktemp("data"))
