"""Tables of tensors: the part that never changes is told once, older tables are read, and damage to either is found."""

from dataclasses import replace

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged, object_name
from carryover.checkpoint.log import Record
from carryover.checkpoint.pack import RawTensor
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.verify import verify
from carryover.checkpoint.writer import Writer
from carryover.ground.digests import canonical
from tests.checkpoint.support import content, flip, numbers, plain, spoil, start


def _state(step: int, *, frozen: int = 300, lasting: bool = True) -> dict[str, RawTensor]:
    below = {f"model/layer.{n:03d}.weight": replace(numbers(n, 0.5), lasting=lasting) for n in range(frozen)}
    return {**below, "model/head": numbers(step), "optim/head/exp_avg": numbers(step, 1)}


def _save(writer: Writer, step: int, tensors: dict[str, RawTensor]) -> Record:
    return writer.commit(step=step, epoch=0, tensors=tensors, state={}, keep=Keep(last=1))


def _new_bytes(home: RunHome, writer: Writer, step: int, tensors: dict[str, RawTensor]) -> int:
    before = writer.home.objects.bytes_written
    _save(writer, step, tensors)
    assert content(home.load_newest(pytest.fail)) == plain(tensors)
    assert verify(home).problems == ()
    kept = {ref.digest for record in home.commits() for ref in record.objects}
    assert kept == set(home.objects.names()), "nothing else stays"
    return writer.home.objects.bytes_written - before


def test_what_never_changes_is_told_once(local: RunHome) -> None:
    writer = start(local)
    first = _new_bytes(local, writer, 1, _state(1))
    assert first > 300 * 100
    assert _new_bytes(local, writer, 2, _state(2)) < 2000
    # Nor is it told again by an attempt that has loaded it, frozen or not said to be.
    again = start(local)
    assert _new_bytes(local, again, 3, _state(3)) < 2000
    assert _new_bytes(local, again, 4, _state(4, lasting=False)) < 2000


def test_what_is_unfrozen_later_is_told_anew(local: RunHome) -> None:
    writer = start(local)
    _save(writer, 1, _state(1))
    changed = {**_state(2, lasting=False), "model/layer.007.weight": numbers(-1, -1)}
    assert _new_bytes(local, writer, 2, changed) > 300 * 100
    gone = {name: raw for name, raw in changed.items() if name != "model/layer.008.weight"}
    _new_bytes(local, writer, 3, gone)
    assert local.objects.load_table(local.commits()[-1].table).base is None


def test_all_or_nothing_lasting_makes_no_base(local: RunHome) -> None:
    writer = start(local)
    everything = {name: replace(raw, lasting=True) for name, raw in _state(1, frozen=3).items()}
    for tensors in (everything, _state(1, frozen=0)):
        assert local.objects.load_table(_save(writer, 1, tensors).table).base is None


def test_a_table_of_the_first_format_is_read_and_gone_on_from(local: RunHome) -> None:
    writer = start(local)
    tensors = _state(1, frozen=3)
    table = local.objects.load_table(_save(writer, 1, tensors).table)
    old = {
        "format": 1,
        "kind": "tensors",
        "save": "0" * 32,
        "packs": [pack.to_json() for pack in table.packs],
        "tensors": {
            name: {"dtype": one.dtype, "shape": list(one.shape), "digest": one.digest, "pack": one.pack}
            for name, one in table.tensors.items()
        },
    }
    ref = local.objects.put(canonical(old))
    read = local.objects.load_table(ref)
    assert (read.packs, read.tensors, read.base) == (table.packs, table.tensors, None)
    assert plain(local.objects.read_tensors(ref)) == plain(tensors)


@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_a_damaged_base_is_reported_and_nothing_of_it_believed(local: RunHome, how: str) -> None:
    writer = start(local)
    table = local.objects.load_table(_save(writer, 1, _state(1, frozen=3)).table)
    assert table.base
    name = object_name(table.base.ref.digest)
    spoil(local, name, flip if how == "flipped" else lambda _: None)
    assert any(problem.startswith(name) for problem in verify(local).problems)
    with pytest.raises(Damaged, match=name):
        local.objects.load_table(table.ref)


def test_a_base_whose_packs_the_table_lacks_is_none(local: RunHome) -> None:
    writer = start(local)
    table = local.objects.load_table(_save(writer, 1, _state(1, frozen=3)).table)
    assert table.base
    forged = {"format": 2, "kind": "tensors", "save": "0" * 32, "base": table.base.ref.to_json(), "packs": []}
    ref = local.objects.put(canonical({**forged, "tensors": {}}))
    with pytest.raises(Damaged, match="not a table of tensors"):
        local.objects.load_table(ref)
