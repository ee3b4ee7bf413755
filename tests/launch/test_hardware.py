"""What ranks share: the cores that a container may really use, the GPUs there are, and one line about it."""

import os
from pathlib import Path

import pytest

from carryover.launch import hardware


def cgroup(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_cores_are_those_that_the_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert hardware.cores(tmp_path) == 64
    assert hardware.cores(cgroup(tmp_path / "a", cpu_dot_max="max 100000")) == 64
    assert hardware.cores(cgroup(tmp_path / "b", cpu_dot_max="250000 100000")) == 3
    assert hardware.cores(cgroup(tmp_path / "c", cpu_dot_max="10000 100000")) == 1
    older = {"cpu__cpu.cfs_quota_us": "400000", "cpu__cpu.cfs_period_us": "100000"}
    assert hardware.cores(cgroup(tmp_path / "d", **older)) == 4
    assert hardware.cores(cgroup(tmp_path / "e", **{**older, "cpu__cpu.cfs_quota_us": "-1"})) == 64
    assert hardware.cores(cgroup(tmp_path / "f", cpu_dot_max="nonsense")) == 64


def test_gpus_are_counted_by_pytorch_only_where_there_may_be_several(tmp_path: Path) -> None:
    import torch

    (tmp_path / "nvidiactl").touch()
    assert hardware.gpus(tmp_path) == 0
    (tmp_path / "nvidia0").touch()
    assert hardware.gpus(tmp_path) == 1
    (tmp_path / "nvidia1").touch()
    assert hardware.gpus(tmp_path) == torch.cuda.device_count()


def test_cores_are_shared_out_unless_a_person_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    assert hardware.thread_variables(3) == {"OMP_NUM_THREADS": "2", "TORCHINDUCTOR_COMPILE_THREADS": "2"}
    assert hardware.thread_words(16) == "1 thread each (of 8 cores)"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert hardware.thread_variables(3) == {"OMP_NUM_THREADS": "5", "TORCHINDUCTOR_COMPILE_THREADS": "2"}
    assert hardware.thread_words(3) == "5 threads each (by OMP_NUM_THREADS)"
