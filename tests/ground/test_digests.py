"""How content is named; golden values, because names on disk must never change."""

import pytest

from carryover.ground.digests import Hasher, canonical, digest, same, short


def test_canonical_json_has_one_spelling() -> None:
    assert canonical({"b": [1, 2.0, None, True], "a": "ö"}) == '{"a":"ö","b":[1,2.0,null,true]}'.encode()
    assert canonical({"a": 1}) != canonical({"a": 1.0})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            canonical({"a": value})


def test_digests_are_blake3() -> None:
    # The first is the test vector of the specification for empty input.
    assert digest(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest(memoryview(b"abc")) == digest(bytearray(b"abc")) == Hasher(b"ab").update(b"c").hexdigest()
    assert short(digest(b"abc")) == digest(b"abc")[:32]


def test_sameness_is_typed() -> None:
    assert same({"a": [1, 2.0]}, {"a": (1, 2.0)})
    assert not same(1, 1.0)
    assert not same(1, True)
    assert not same(None, 0)
