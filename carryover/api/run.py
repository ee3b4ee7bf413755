"""Owns Run: a training in a store, whether it goes on or has ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carryover.api import cards
from carryover.api.places import store_of
from carryover.api.saying import spoken
from carryover.api.sparks import spark

if TYPE_CHECKING:
    from carryover.api.model import Model
    from carryover.checkpoint.home import RunHome
    from carryover.report.curve import Curve


@dataclass(frozen=True, repr=False)
class Run:
    """One training, over all its attempts, as it stood when it was opened.

    Attributes:
        uri: its home.
        key: names it: the digest of its data and of every key that can change the result.
        store: the store that it lies in.
        dataset_uri, dataset_digest: what it learns.
        step: optimizer steps that are safe: of the newest commit, or of its end.
        finished: whether it has reached its limits.
        reason: why it ended, "" while it has not.
        metrics: name -> value, of its end; {} before.
        attempts: how often it was started.
        lost_steps: optimizer steps that were done twice after kills, of its end; None before.
        recipe: its keys where they are not the default.
        backbone: what it started from, of a transfer; "" for nothing.
        report: path or URI of the training's page, "" where there is none.
    """

    uri: str
    key: str
    store: str
    dataset_uri: str
    dataset_digest: str
    step: int
    finished: bool
    reason: str
    metrics: Mapping[str, float | None] = field(compare=False)
    attempts: int
    lost_steps: int | None
    recipe: Mapping[str, Any] = field(compare=False)
    backbone: str = ""
    report: str = ""

    @property
    def word(self) -> str:
        """Return what names it to a step."""
        return f"run:{self.key}"

    @property
    @spoken()
    def model(self) -> "Model":
        """Return the Model that it ended with.

        Raises:
            WrongInput: while it has none.
        """
        from carryover.api.model import model_of

        return model_of(self.word, store=self.store)

    @property
    @spoken()
    def curve(self) -> "Curve":
        """Return what it logged over all attempts, read anew: `series["loss"].values`, starts, saves, stops."""
        from carryover.ground import storage
        from carryover.report.curve import read_curve

        return read_curve(storage.open_store(self.uri))

    def resume(self, **settings: Any) -> "Model":
        """Go on with this run, with other settings where some are given, and return its Model.

        Args:
            settings: as `carryover.train` takes them; keys not given are the run's own. A finished run goes on when
                its limits are raised: `optimization={"max_epochs": 20}`.

        Raises:
            WrongInput: for a key that can't change in a run that exists.
            RunAgain: when it was interrupted, and saved.
        """
        from carryover.api.training import resumed

        return resumed(self, settings)

    def __repr__(self) -> str:
        state = f"finished ({self.reason})" if self.finished else "not finished"
        return f"Run({self.key}: {state}, step {self.step:,}, attempts {self.attempts}; {cards.near(self.uri)})"

    def _repr_html_(self) -> str:
        tiles: list[tuple[str, float]] = [("steps", self.step), ("attempts", self.attempts)]
        tiles += [("steps lost", self.lost_steps)] if self.lost_steps is not None else []
        tiles += [(name, value) for name, value in list(self.metrics.items())[:4] if value is not None]
        changed = [f"{name} = {value}" for name, value in self.recipe.items()]
        facts = [
            ("state", f"finished: {self.reason}" if self.finished else "not finished; .resume() goes on"),
            ("recipe", cards.listed(changed, most=6)),
            ("place", cards.near(self.uri)),
        ]
        return cards.Card("Run", "", self.key, tiles, facts, spark(self.curve), self.report).html()


def run_of(home: "RunHome") -> Run:
    """Open a run by its home.

    Raises:
        Damaged: when its run.json is not what was written.
    """
    told, finish, commits, last = home.run(), home.finish_record(), home.commits(), home.latest_claim()
    body, parent = finish.body if finish else {}, told["parent"] or {}
    metrics = body.get("metrics", {})
    # A run that was continued has commits behind its last finish.
    finished = finish is not None and (not commits or commits[-1].number < finish.number)
    # (A finish stands at the step of its weights, which may be the best and not the last ones.)
    newest = max([int(metrics.get("steps", 0)), *(commit.step for commit in commits)])
    return Run(
        uri=home.store.uri,
        key=told["run_key"],
        store=store_of(home.store.uri, "runs"),
        dataset_uri=told["dataset"]["uri"],
        dataset_digest=told["dataset"]["digest"],
        step=newest,
        finished=finished,
        reason=body.get("reason", "") if finished else "",
        metrics={name: value for name, value in metrics.items() if name.startswith("val_")} if finished else {},
        attempts=last.attempt if last else 0,
        lost_steps=metrics.get("lost_steps") if finished else None,
        recipe=told["identity"],
        # (A transfer, of carryover/train/parent.py.)
        backbone=parent["uri"] if parent.get("kind") == "transfer" else "",
        report=home.store.at("report.html") if home.store.exists("report.html") else "",
    )
