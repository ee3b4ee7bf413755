"""Owns what the step tells its ranks: one JSON file of plain values, so that no rank decides anything twice."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spec:
    """One attempt, as every rank sees it.

    Attributes:
        home: URI of the run's folder.
        recipe: every key, resolved.
        schema: of the dataset as the model has it, as `Schema.to_json` gives it.
        parent: what the run starts from, as `Parent.to_json` gives it; None for nothing.
        rows: split -> local Arrow file.
        old_rows: split of the parent's own dataset -> local Arrow file, of those that remedies need.
        dataset: {"digest", "uri"}, for the Model's card.
        handoff: the claim, as `Writer.handoff` gives it.
        time_limit: seconds of training over all attempts; None for none.
        records: records of the log that the step has read, as `Log.remembered` gives them.
        lost_step: the newest step that the attempt before this one is known to have reached; None when unknown.
        progress: local file for the newest step.
        first_step: local file for the time of the first step; "" for none.
        source: of a transfer that has no commit yet, local files as `carry.foreign.Source.to_json` gives them.
        scratch: local folder for what the launcher reads, see `train.progress`; "" for none.
        nodes: how many machines train.
        changes: recipe key -> [old, new], where this attempt differs from the one before.
        imports: what is imported before the rank begins, as `launch.imports.Imports.to_json` gives it.
        strict: whether a transfer with gaps is an error.
        trust_pickle: whether code in pickled weights may be run, said by a person for this start alone.
    """

    home: str
    run_key: str
    recipe: Mapping[str, Any]
    schema: Mapping[str, Any]
    rows: Mapping[str, str]
    dataset: Mapping[str, str]
    handoff: Mapping[str, Any]
    time_limit: float | None
    lost_step: int | None
    progress: str
    first_step: str
    trust_pickle: bool = False
    parent: Mapping[str, Any] | None = None
    old_rows: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Any] | None = None
    strict: bool = False
    scratch: str = ""
    nodes: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)
    imports: Mapping[str, Any] = field(default_factory=dict)
    records: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the plain values; `Spec(**values)` is the way back."""
        return asdict(self)
