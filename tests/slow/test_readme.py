"""What the README tells a reader to type works as it stands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_readmes_commands_train_and_evaluate(tmp_path: Path) -> None:
    """The block of "The command line", typed into a shell in a folder that has the examples."""
    block = re.search(r"## The command line\n.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block
    assert block[1].count("carryover ") >= 3
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    typed = subprocess.run(
        ["bash", "-euc", block[1]],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout[-3000:] + typed.stderr[-3000:]
    result = json.loads((tmp_path / "build" / "report" / "result.json").read_text())
    # Two balanced classes: a model that had learned nothing would be at one half.
    assert result["metrics"]["accuracy"] > 0.7
    assert (tmp_path / "build" / "report" / "report.html").stat().st_size > 1000
