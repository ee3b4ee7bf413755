"""The lines of a run's curve, as tests look at them."""

import json
from typing import Any

from carryover.checkpoint.metrics import read_lines, step_of
from carryover.ground.storage import Store


def told(home: Store) -> list[dict[str, Any]]:
    """Return the lines that count, oldest first."""
    return [json.loads(line) for line in read_lines(home) if step_of(line) is not None]
