"""A pod's end as Kubeflow Pipelines, Argo and a lost node bring it about: what each costs, against the promise."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import pod_life


@pytest.fixture
def folder(podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where table and stores lie; no container is left, whatever happens."""
    monkeypatch.setenv("CONTAINERS_CONF", podman.env["CONTAINERS_CONF"])
    yield tmp_path
    pod_life.clear()


@pytest.mark.containers
@pytest.mark.timeout(1800)
def test_every_end_is_survived_and_a_grace_loses_nothing(podman, folder):
    found = pod_life.measure(podman.image, folder, ends=1)
    print(pod_life.table(found))
    assert not pod_life.broken(found)
    assert all(len(found[way].ends) == 1 for way in pod_life.WAYS), "each was ended in the middle"
    assert found["node"].ends[0].code == 137


def test_a_broken_promise_is_seen():
    """The judge itself: other weights, a lost step under Argo, an exit code that says done."""
    end = pod_life.Ended("argo", 75, 1.0, 0.0)
    good = {"whole": pod_life.Way(model="a"), "argo": pod_life.Way([end], 0, "a")}
    assert not pod_life.broken(good)
    for wrong in (
        pod_life.Way([end], 0, "b"),
        pod_life.Way([end], 1, "a"),
        pod_life.Way([replace(end, code=137)], 0, "a"),
    ):
        assert pod_life.broken({**good, "argo": wrong})
