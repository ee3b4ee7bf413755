"""Owns how a run calls the command line, and where all of it lies."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.quality.cases import ROOT, minilm

WORK = ROOT / "build" / "quality"


def resolved(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe with the folder of the weights in the place of their name."""
    return {key: minilm() if value == "minilm" else value for key, value in recipe.items()}


def carryover(*words: str) -> None:
    """Run the command line; what it says goes on to the terminal only when it fails."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    command = [sys.executable, "-m", "carryover", *words, "--store", str(WORK / "store")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words[:1])} ended with {done.returncode}:\n{done.stderr[-3000:]}")
