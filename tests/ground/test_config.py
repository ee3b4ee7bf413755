"""Config classes from plain values: what is accepted, what becomes what, and what an error says."""

from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any

import pytest

from carryover.ground.config import build, check, fields_of, flatten, key, nearest, nest
from carryover.ground.errors import WrongInput


@dataclass(frozen=True)
class Inner:
    rate: float = key(0.1, help="A rate.", allowed="> 0", mutable=True)
    warmup: float | int = key(0.5, help="A fraction or a count.")

    def __post_init__(self) -> None:
        check(self.rate > 0, "rate", self.rate, "above 0")


@dataclass(frozen=True)
class Outer:
    name: str = key(help="Required.")
    steps: int = key(3, help="A count.", identity=False)
    flag: bool = key(False, help="A switch.")
    words: tuple[str, ...] = key(("a",), help="Some words.")
    table: dict = key({"x": 1}, help="A mapping.")  # noqa: RUF009 - key copies it
    limit: int | None = key(None, help="A bound or none.")
    any: bool | int | float | str | None = key(None, help="Whatever YAML gives.")
    inner: Inner = field(default_factory=Inner)


def made(**values: Any) -> Outer:
    return build(Outer, {"name": "n", **values})


@pytest.mark.parametrize(
    ("values", "name", "want"),
    [
        ({"inner": {"rate": "1e-4"}}, "inner.rate", 1e-4),
        ({"inner": {"rate": 1}}, "inner.rate", 1.0),
        ({"inner": {"warmup": 5}}, "inner.warmup", 5),
        ({"inner": {"warmup": 5.0}}, "inner.warmup", 5.0),
        ({"inner": {"warmup": "1e-1"}}, "inner.warmup", 0.1),
        ({"steps": 4.0}, "steps", 4),
        ({"words": ["b", "c"]}, "words", ["b", "c"]),
        ({"words": []}, "words", []),
        ({"limit": 7}, "limit", 7),
        ({"limit": None}, "limit", None),
        ({"any": True}, "any", True),
        ({"any": 1}, "any", 1),
        ({"any": 1.0}, "any", 1.0),
        ({"any": "1"}, "any", "1"),
        ({"name": 32}, "name", "32"),
        ({"table": {"y": [2]}}, "table", {"y": [2]}),
    ],
)
def test_a_value_becomes_what_its_type_says(values: dict, name: str, want: object) -> None:
    found = flatten(made(**values))[name]
    assert found == want
    assert type(found) is type(want)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"rates": 1}}, "inner.rates: unknown key; did you mean 'inner.rate'?"),
        ({"rate": 1}, "rate: unknown key; did you mean 'inner.rate'?"),
        ({"qqqqq": 1}, "qqqqq: unknown key"),
        ({"inner": {"rate": -1}}, "inner.rate: -1.0 is not possible; it must be above 0"),
        ({"inner": {"rate": "fast"}}, "inner.rate: 'fast' is not possible; it must be float"),
        ({"inner": {"rate": True}}, "inner.rate: True is not possible; it must be float"),
        ({"inner": {"rate": float("inf")}}, "inner.rate: inf is not possible; it must be a finite number"),
        ({"inner": {"rate": float("nan")}}, "inner.rate: nan is not possible; it must be a finite number"),
        ({"inner": {"warmup": "soon"}}, "inner.warmup: 'soon' is not possible; it must be float or int"),
        ({"inner": 3}, "inner: 3 is not possible; it must be a section with keys of its own"),
        ({"steps": 2.5}, "steps: 2.5 is not possible; it must be int"),
        ({"steps": True}, "steps: True is not possible; it must be int"),
        ({"steps": None}, "steps: None is not possible; it must be int"),
        ({"flag": 1}, "flag: 1 is not possible; it must be bool"),
        ({"name": True}, "name: True is not possible; it must be str"),
        ({"words": "b"}, "words: 'b' is not possible; it must be a list"),
        ({"words": ["b", None]}, "words[1]: None is not possible; it must be str"),
        ({"table": 1}, "table: 1 is not possible; it must be a mapping"),
        ({"limit": "x"}, "limit: 'x' is not possible; it must be int"),
    ],
)
def test_an_error_says_where_what_and_what_would_be_right(values: dict, message: str) -> None:
    with pytest.raises(WrongInput) as error:
        made(**values)
    assert str(error.value) == message
    assert error.value.exit_code == 2


def test_a_missing_key_and_the_path_in_front() -> None:
    with pytest.raises(WrongInput, match=r"^name: missing; it has no default$"):
        build(Outer, {})
    with pytest.raises(WrongInput, match=r"^top\.inner\.rate: 0\.0 is not possible; it must be above 0$"):
        build(Outer, {"name": "n", "inner": {"rate": 0}}, path="top")


def test_what_is_built_is_frozen_and_shares_no_default() -> None:
    one, other = made(), made()
    with pytest.raises(FrozenInstanceError):
        one.steps = 4  # pyright: ignore[reportAttributeAccessIssue]
    one.table["y"] = 2
    assert other.table == {"x": 1}
    assert fields_of(Outer)["table"].default == {"x": 1}


def test_flat_and_nested_are_inverse() -> None:
    config = made(steps=9, inner={"rate": 0.25}, table={})
    assert build(Outer, nest(flatten(config))) == config
    with pytest.raises(WrongInput, match=r"^a\.b: 'a' has a value of its own"):
        nest({"a": 1, "a.b": 2})


def test_what_is_known_of_a_key() -> None:
    known = fields_of(Outer)
    assert list(known) == [
        "name", "steps", "flag", "words", "table", "limit", "any", "inner.rate", "inner.warmup"
    ]  # fmt: skip
    rate = known["inner.rate"]
    assert (rate.default, rate.help, rate.allowed, rate.identity, rate.mutable) == (0.1, "A rate.", "> 0", True, True)
    assert not known["steps"].identity


def test_the_nearest_word() -> None:
    assert nearest("learnin_rate", ["learning_rate", "seed"]) == "learning_rate"
    assert nearest("xyz", ["learning_rate", "seed"]) == ""
