"""Owns Arrow's compute functions under one name: they are made on import, so no type checker sees them."""

from typing import Any

import pyarrow.compute

pc: Any = pyarrow.compute
