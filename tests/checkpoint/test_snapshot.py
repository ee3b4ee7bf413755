"""torch tensors in and out, bit for bit."""

import pytest
import torch

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.snapshot import restore, snapshot, to_raw, to_torch
from tests.checkpoint.support import start

TENSORS = {
    "model/bf16": torch.randn(3, 5).bfloat16(),
    "model/scalar": torch.tensor(3.25),
    "model/scalar_bf16": torch.tensor(-1.5).bfloat16(),
    "model/empty": torch.empty(0, 4),
    "model/transposed": torch.randn(4, 6).t(),
    "model/strided": torch.arange(20)[::3],
    "model/bool": torch.tensor([True, False]),
    "model/half": torch.randn(7).half(),
    "model/special": torch.tensor([float("nan"), float("inf"), -0.0], dtype=torch.float64),
    "model/complex": torch.randn(2, 2, dtype=torch.complex64).conj(),
    "model/float8": torch.randn(4).to(torch.float8_e4m3fn),
    "optim/step": torch.tensor(17, dtype=torch.int64),
    "optim/parameter": torch.nn.Parameter(torch.randn(2, 2)),
}


def _bits(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().resolve_conj().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def test_all_kinds_come_back_from_a_store_bit_for_bit(home: RunHome) -> None:
    start(home).commit(step=1, epoch=0, tensors=snapshot(TENSORS), state={})
    loaded = home.load_newest()
    assert loaded
    found = restore(loaded.tensors())
    assert list(found) == list(TENSORS) or set(found) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert _bits(found[name]) == _bits(tensor), name


def test_raw_tensor_is_the_memory_itself_and_a_restored_one_is_its_own() -> None:
    tensor = torch.zeros(4)
    raw = to_raw(tensor)
    restored = to_torch(raw)
    tensor += 1
    assert bytes(raw.data) == _bits(tensor)
    assert restored.sum() == 0
    restored += 5
    assert tensor.sum() == 4


def test_tensor_that_cannot_be_saved_is_refused() -> None:
    with pytest.raises(ValueError, match="complex128"):
        to_raw(torch.zeros(2, dtype=torch.complex128))
    with pytest.raises(ValueError, match="sparse"):
        to_raw(torch.eye(3).to_sparse())


def test_rest_of_the_floor_does_not_import_torch() -> None:
    import subprocess
    import sys

    program = "import sys, carryover.checkpoint, carryover.cli.checkpoint; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
