"""Owns champions: which Model stands for a name now, and every decision that led there.

<store>/champions/<name>/0000000000.json   promote   A          there was no champion
                         0000000001.json   reject    B          was measured against A
                         0000000002.json   promote   C          over A
                         0000000003.json   rollback  to A       away from C
                         each names the digest of the record before it:  0 <- 1 <- 2 <- 3

The newest promote or rollback says who is the champion. B and C are remembered: neither is promoted again unforced.
A record is put if absent under the next number, and names the champion that its decision was made against. So of two
that decide at once one is late: it looks again, and stops where the champion is another than the one it knew.
"""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from carryover.carry.decision import Contender, Decision, Draft, Kind, decode, make
from carryover.checkpoint.layout import Damaged, padded, record_number, settled
from carryover.ground import storage
from carryover.ground.digests import digest
from carryover.ground.errors import RunAgain, Superseded, WrongInput
from carryover.ground.storage import Store
from carryover.models.card import CARD, MODELS, is_model_digest
from carryover.models.export import find_model

CHAMPIONS = "champions"
PREFIX = "champion:"
_NAME = re.compile(r"[a-z0-9-]+")
# A history is read at once; on an object store each record is a request.
_READERS = 16
# Every lost race is a record of somebody else: so many in a row are no race any more.
_MOST_RACES = 1000


class Refused(WrongInput):
    """A model that was rejected, or rolled back from, is to be champion, and nobody said that it may."""

    usual = "not-accepted"


@dataclass(frozen=True)
class History:
    """All decisions about one name, oldest first, whole and in order."""

    name: str
    decisions: tuple[Decision, ...] = ()

    @property
    def champion(self) -> Decision | None:
        """The decision that made today's champion, None where there is none."""
        return next((one for one in reversed(self.decisions) if one.kind != "reject"), None)

    @property
    def digest(self) -> str:
        """Digest of today's champion, "" where there is none."""
        return self.champion.model.digest if self.champion else ""

    def refusal(self, model: str) -> Decision | None:
        """Return the decision that rejected a model or rolled back from it, None where there is none.

        Who promoted it by force later took that back.
        """
        for one in reversed(self.decisions):
            if one.kind == "rollback" and one.against == model:
                return one
            if one.model.digest == model:
                return one if one.kind == "reject" else None
        return None

    def before(self, decision: Decision) -> Decision | None:
        """Return the decision that made the champion before `decision`'s model came, past those refused since."""
        model = decision.model.digest
        while (number := self._promotion(decision).against_number) is not None:
            decision = self.decisions[number]
            # The same Model may have been champion twice.
            if decision.model.digest != model and not self.refusal(decision.model.digest):
                return decision
        return None

    def _promotion(self, decision: Decision) -> Decision:
        """Return how a champion came: its promotion, also where `decision` is a rollback to it."""
        earlier = reversed(self.decisions[: decision.number + 1])
        return next(one for one in earlier if one.kind == "promote" and one.model.digest == decision.model.digest)


def history(store: Store, name: str) -> History:
    """Read and verify every decision about a name; an empty history where there is none.

    Raises:
        WrongInput: for a name that can't be one.
        Damaged: when a record is missing, was changed, or does not follow the one before it.
    """
    home = _home(store, name)
    last = max((number for file in home.names() if (number := record_number(file)) is not None), default=-1)
    while home.exists(_file(last + 1)):
        last += 1
    with ThreadPoolExecutor(_READERS) as pool:
        found = tuple(pool.map(partial(_read, home, name), range(last + 1)))
    for before, one in pairwise(found):
        if one.previous != before.digest:
            raise Damaged(f"{home.at(_file(one.number))}: does not follow record {before.number}, which was changed")
    return History(name, found)


def champion(store: Store, name: str) -> Decision | None:
    """Return the decision that made the champion of a name, None where there is none; raises as `history`."""
    return history(store, name).champion


def resolve(source: str, store: Store) -> str:
    """Return the URI of the Model that "champion:NAME" stands for now.

    Raises:
        WrongInput: when that name has no champion.
    """
    found = champion(store, source.removeprefix(PREFIX))
    if found is None:
        names = store.folders(CHAMPIONS)
        known = f"there are {', '.join(names)}" if names else "there is none yet: carryover promote NAME --model URI"
        raise WrongInput(f"{source}: {store.uri} has no champion of that name; {known}")
    return place_of(found.model, store)


def place_of(model: Contender, store: Store) -> str:
    """Return where a Model lies: in this store, which may have been moved, else where it was promoted from."""
    here = storage.open_store(storage.join(store.at(MODELS), model.digest))
    return here.uri if here.exists(CARD) else model.uri


def promote(
    store: Store,
    name: str,
    model: Contender,
    *,
    against: str,
    force: bool = False,
    reason: str = "",
    metrics: Mapping[str, float | None] | None = None,
    who: str = "",
    once: bool = False,
) -> Decision:
    """Make a Model the champion; returns the decision, or an older one that says the same.

    Args:
        against: digest of the champion that it was measured against, "" for none.
        force: also where it was rejected or rolled back from.
        who: the run or person that decides.
        once: `who` decides this once, so a retry finds its own decision, whatever came after.

    Raises:
        Superseded: when the champion is, or meanwhile became, another than `against`.
        Refused: when the model was rejected or rolled back from, without `force`.
        WrongInput: for a name or digest that can't be one.
    """
    if against and not is_model_digest(against):
        raise WrongInput(
            f"champion '{name}': '{against}' is no Model's digest; it has 32 characters, 0-9 and a-f",
            trouble="wrong-value",
        )

    def judge(now: History) -> Draft | Decision:
        if once and (mine := _own(now, "promote", model, against, who)):
            return mine
        if now.champion and now.digest == model.digest:
            return now.champion
        _check_unchanged(now, against, f"Model {model.digest} was measured against")
        refusal = now.refusal(model.digest)
        if refusal and not force:
            raise Refused(f"champion '{name}': {_refused(refusal, model)}; it is promoted only with --force")
        number = _number(now.champion)
        return Draft("promote", model, now.digest, number, bool(refusal), reason, metrics or {}, who)

    return _decide(store, name, judge)


def reject(
    store: Store,
    name: str,
    model: Contender,
    *,
    against: str,
    reason: str = "",
    metrics: Mapping[str, float | None] | None = None,
    who: str = "",
    once: bool = False,
) -> Decision:
    """Remember that a Model was not good enough; returns the decision, or the older one that refused it already.

    A champion is rolled back, not rejected: it is left alone, and what made it champion is returned. For the arguments
    see `promote`.
    """

    def judge(now: History) -> Draft | Decision:
        if once and (mine := _own(now, "reject", model, against, who)):
            return mine
        if refusal := now.refusal(model.digest):
            return refusal
        if now.champion and now.digest == model.digest:
            return now.champion
        met = next((one for one in reversed(now.decisions) if against and one.model.digest == against), None)
        return Draft("reject", model, against, _number(met), False, reason, metrics or {}, who)

    return _decide(store, name, judge)


def rollback(store: Store, name: str, *, to: str = "", reason: str = "", who: str = "") -> Decision:
    """Make an earlier champion the champion again; the one of now is not promoted again without force.

    Args:
        to: an earlier champion's digest (or its beginning), or the number of a record that made one. "": the one
            before.

    Raises:
        WrongInput: when there is no such champion to go back to, or its files are gone.
        Superseded: when another one became champion meanwhile.
    """
    first = history(store, name)
    if first.champion is None:
        raise WrongInput(f"champion '{name}': there is none in {store.uri}, so there is nothing to roll back")
    target = _earlier(first, to) if to else first.before(first.champion)
    if target is None:
        raise WrongInput(f"champion '{name}': there is none before {first.digest} to go back to")
    find_model(place_of(target.model, store))

    def judge(now: History) -> Draft:
        _check_unchanged(now, first.digest, "the rollback was meant for")
        number = _number(now.champion)
        return Draft("rollback", target.model, now.digest, number, False, reason, target.metrics, who)

    return _decide(store, name, judge)


def _earlier(known: History, to: str) -> Decision:
    """Return the decision that made the champion which a person named by number or digest."""
    made = [one for one in known.decisions if one.kind != "reject"]
    by_number = to.isdecimal() and len(to) <= len(padded(0))
    hits = [one for one in made if (one.number == int(to) if by_number else one.model.digest.startswith(to))]
    where = f"champion '{known.name}': --to {to}"
    if len({one.model.digest for one in hits}) != 1:
        there = ", ".join(f"{one.number} ({one.model.digest})" for one in made)
        what = "more than one champion" if hits else "no champion"
        raise WrongInput(f"{where}: {what} of that number or digest; there were {there}")
    target = hits[-1]
    if target.model.digest == known.digest:
        raise WrongInput(f"{where}: that is the champion already")
    if refusal := known.refusal(target.model.digest):
        again = f"carryover promote {known.name} --model {target.model.uri} --force"
        raise Refused(f"{where}: {_refused(refusal, target.model)}; to make it champion all the same: {again}")
    return target


def _refused(refusal: Decision, model: Contender) -> str:
    verb = "rejected" if refusal.kind == "reject" else "rolled back from"
    why = f" ({refusal.reason})" if refusal.reason else ""
    return f"Model {model.digest} was {verb} in record {refusal.number}{why}"


def _own(now: History, kind: Kind, model: Contender, against: str, who: str) -> Decision | None:
    """Return the decision that this very run has made before, in an attempt that died before it could say so."""
    mine = (kind, model.digest, against, who)
    found = (one for one in now.decisions if (one.kind, one.model.digest, one.against, one.who) == mine)
    return next(found, None)


def _check_unchanged(now: History, expected: str, what: str) -> None:
    if now.digest == expected:
        return
    since = f"record {now.champion.number} has made {now.digest} the champion" if now.champion else "there is none"
    raise Superseded(f"champion '{now.name}': {what} {expected or 'no champion'}, but {since}")


def _number(decision: Decision | None) -> int | None:
    return decision.number if decision else None


def _decide(store: Store, name: str, judge: Callable[[History], Draft | Decision]) -> Decision:
    """Append what `judge` says of the history as it is; where somebody else was faster, it is asked again."""
    home = _home(store, name)
    for _ in range(_MOST_RACES):
        now = history(store, name)
        found = judge(now)
        if isinstance(found, Decision):
            return found
        previous = now.decisions[-1].digest if now.decisions else ""
        made = make(found, name=name, number=len(now.decisions), previous=previous)
        if _put(home, made):
            return made
    raise RunAgain(
        f"champion '{name}': {_MOST_RACES} times in a row somebody else decided something first", trouble="busy"
    )


def _put(home: Store, made: Decision) -> bool:
    """Write a record unless its number is taken; a lost answer of the store is no lost race."""
    file = _file(made.number)
    try:
        if home.create(file, made.data):
            return True
    except Exception:
        # The store may have applied it and lost only the answer. (Object stores raise their own kinds.)
        if not home.exists(file):
            raise
    # Our own nonce there means that this try arrived. (Read twice where need be: one answer may be spoilt on its way.)
    return any(home.read(file) == made.data for _ in range(2))


def _read(home: Store, name: str, number: int) -> Decision:
    """Read one record; what does not verify is read once more before it counts as damaged."""
    file = _file(number)

    def look() -> Decision:
        try:
            data = home.read(file)
        except FileNotFoundError:
            raise Damaged(f"{home.at(file)}: missing, though there are later records") from None
        try:
            return decode(data, name=name, number=number)
        except Damaged as error:
            raise Damaged(f"{home.at(file)}: {error}", found=digest(data)) from None

    return settled(look)


def _home(store: Store, name: str) -> Store:
    if not _NAME.fullmatch(name):
        raise WrongInput(f"champion '{name}': a name is made of a-z, 0-9 and '-'", trouble="wrong-value")
    return store.sub(f"{CHAMPIONS}/{name}")


def _file(number: int) -> str:
    return f"{padded(number)}.json"
