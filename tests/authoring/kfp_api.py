"""Holds requests and answers against KFP's published API, with whatever it does not know refused.

The definition itself accepts anything: its objects are open and name nothing as required. Here objects are closed, what
a description calls "Required" is, and what it calls "Output" must not be sent.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

FILE = Path(__file__).resolve().parents[3] / "shared" / "schemas" / "kfp_api_single_file.swagger.json"
_TYPES = {"string": str, "integer": int, "boolean": bool}


class Api:
    """KFP's API as strict as it is meant."""

    def __init__(self, file: Path = FILE) -> None:
        self.swagger = json.loads(file.read_text())
        self.definitions = copy.deepcopy(self.swagger["definitions"])
        for definition in self.definitions.values():
            if "properties" in definition:
                definition["additionalProperties"] = False
                for field in definition["properties"].values():
                    # Travels as text or number.
                    if field.get("format") == "int64":
                        field["type"] = ["string", "integer"]

    def request_breach(self, method: str, path: str, body: Any) -> str:
        """Return what is wrong with a request, "" for nothing."""
        plain, _, query = path.partition("?")
        operation = self._operation(method, plain)
        if operation is None:
            return f"{method} {plain}: no such operation"
        known = {one["name"]: one for one in operation.get("parameters", [])}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if known.get(name, {}).get("in") != "query":
                return f"{method} {plain}: no query parameter {name}"
            if known[name]["type"] == "integer" and not value.isdecimal():
                return f"{method} {plain}: {name}={value} is no number"
        wanted = next((one for one in known.values() if one["in"] == "body"), None)
        if wanted is None:
            return f"{method} {plain}: takes no body" if body is not None else ""
        if body is None:
            return f"{method} {plain}: has no body" if wanted.get("required") else ""
        return self._body_breach(wanted["schema"], body)

    def answer_breach(self, method: str, path: str, answer: Any) -> str:
        """Return what is wrong with an answer of 200, "" for nothing."""
        operation = self._operation(method, path.partition("?")[0])
        assert operation, path
        return self._breach(operation["responses"]["200"]["schema"], answer)

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        for template, operations in self.swagger["paths"].items():
            pattern = re.sub(r"\\\{[^}]*\\\}", "[^/:]+", re.escape(template))
            if re.fullmatch(pattern, path) and method.lower() in operations:
                return operations[method.lower()]
        return None

    def _body_breach(self, schema: dict[str, Any], body: Any) -> str:
        fields = self.definitions[schema["$ref"].rpartition("/")[2]]["properties"]
        words = {name: field.get("description", "") for name, field in fields.items()}
        # A run with a spec of its own needs no reference to one on the server, and the other way round.
        missing = [name for name, text in words.items() if text.startswith("Required") and name not in body]
        if missing:
            return f"missing: {', '.join(missing)}"
        if outputs := [name for name in body if words.get(name, "").startswith("Output")]:
            return f"only the server says {', '.join(outputs)}"
        return self._breach(schema, body)

    def _breach(self, schema: dict[str, Any], value: Any) -> str:
        import jsonschema

        # Not jsonschema.validate, which checks the whole definition itself each time.
        whole = jsonschema.Draft7Validator({**schema, "definitions": self.definitions})
        error = next(whole.iter_errors(value), None)
        return f"{'.'.join(map(str, error.absolute_path))}: {error.message}" if error else ""
