"""Objects and packs: what goes in comes out, nothing goes in twice, nothing spoilt comes out."""

import math
import struct

import pytest
import safetensors
import safetensors.numpy

from carryover.checkpoint import store as objects_module
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged, object_name
from carryover.checkpoint.pack import ITEM_SIZES, RawTensor, parse, pieces
from carryover.ground.digests import digest
from tests.checkpoint.support import flip, numbers, plain, spoil


def _pack(*tensors: RawTensor) -> bytes:
    return b"".join(bytes(piece) for piece in pieces(tensors, save="0" * 32))


def test_pack_is_safetensors_to_its_own_library() -> None:
    one, two = numbers(1.5, 2.5), numbers(7, 8, 9, dtype="I64")
    found = dict(safetensors.deserialize(_pack(one, two)))
    assert {name: (v["dtype"], v["shape"], bytes(v["data"])) for name, v in found.items()} == {
        one.digest: ("F32", [2], one.data),
        two.digest: ("I64", [3], two.data),
    }


def test_pack_of_the_library_is_read() -> None:
    import numpy as np

    data = safetensors.numpy.save({"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": np.array(3.0)})
    found = parse(data)
    assert (found["a"].dtype, found["a"].shape) == ("I16", (2, 3))
    assert struct.unpack("<d", found["b"].data) == (3.0,)


@pytest.mark.parametrize("dtype", sorted(ITEM_SIZES))
@pytest.mark.parametrize("shape", [(), (0, 4), (3, 2)])
def test_every_dtype_and_shape_comes_back(dtype: str, shape: tuple[int, ...]) -> None:
    raw = RawTensor(dtype, shape, bytes(i % 251 for i in range(math.prod(shape) * ITEM_SIZES[dtype])))
    assert plain(parse(_pack(raw))) == plain({raw.digest: raw})


def test_tensor_is_named_by_dtype_shape_and_data() -> None:
    data = bytes(8)
    same = RawTensor("F32", (2,), data)
    assert same.digest == digest(b"F32|2|" + data) == RawTensor("F32", (2,), memoryview(bytearray(data))).digest
    others = [RawTensor("F32", (1, 2), data), RawTensor("I32", (2,), data), RawTensor("F64", (), data)]
    assert len({same.digest, *(other.digest for other in others)}) == 4


@pytest.mark.parametrize(("dtype", "shape", "size"), [("F32", (2,), 7), ("F12", (2,), 8), ("BF16", (), 4)])
def test_tensor_that_does_not_add_up_is_refused(dtype: str, shape: tuple[int, ...], size: int) -> None:
    with pytest.raises(ValueError, match=dtype):
        RawTensor(dtype, shape, bytes(size))


def test_tensors_come_back_and_equal_ones_are_stored_once(home: RunHome) -> None:
    tensors = {"model/a": numbers(1, 2), "model/tied": numbers(1, 2), "optim/a": numbers(0, 0), "model/none": numbers()}
    table = home.objects.put_tensors(tensors)
    assert plain(home.objects.read_tensors(table.ref)) == plain(tensors)
    assert plain(home.objects.read_tensors(table, "model/a")) == plain({"model/a": tensors["model/a"]})
    assert len(table.packs) == 2
    assert sum(len(parse(home.objects.get(pack))) for pack in table.packs) == 3


def test_known_tensors_are_not_written_again(home: RunHome) -> None:
    first = home.objects.put_tensors({"model/a": numbers(1), "model/b": numbers(2)})
    second = home.objects.put_tensors({"model/renamed": numbers(1), "optim/c": numbers(3)}, [first])
    assert second.packs[0] == first.packs[0]
    assert list(parse(home.objects.get(second.packs[1]))) == [numbers(3).digest]
    assert len(home.objects.names()) == 4


def test_packs_are_cut_at_their_size(local: RunHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_module, "PACK_BYTES", 20)
    tensors = {f"model/{i}": numbers(i, i) for i in range(5)} | {"model/long": numbers(*range(9))}
    table = local.objects.put_tensors(tensors)
    assert [len(parse(local.objects.get(pack))) for pack in table.packs] == [2, 2, 1, 1]
    assert plain(local.objects.read_tensors(table)) == plain(tensors)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (flip, "changed"),
        (lambda data: data[:-3], "bytes"),
        (lambda data: b"", "0 bytes"),
        (lambda data: None, "missing"),
    ],
)
def test_spoilt_object_is_found_by_every_way_in(home: RunHome, change, says: str) -> None:
    ref = home.objects.put(b"content of an object")
    home.objects.check(ref)
    spoil(home, object_name(ref.digest), change)
    for look in (home.objects.get, home.objects.check):
        with pytest.raises(Damaged, match=says):
            look(ref)


def test_forged_digest_does_not_lead_out_of_the_run() -> None:
    with pytest.raises(Damaged, match="not the digest"):
        object_name("../../../etc/passwd")
