"""Owns the fixture that the tests beside components and pipelines share, under the name that the catalog gives it."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def setup_and_teardown_subprocess_runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """kfp's local runner in this Python; yields the folder of its artifacts. A step that fails raises."""
    from kfp import local
    from kfp.local.config import LocalExecutionConfig

    folder = tmp_path_factory.mktemp("artifacts")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder), raise_on_error=True)
    yield folder
    LocalExecutionConfig.instance = None
