"""Families whose dumps go wrong, each in its own way."""

from pathlib import Path
from typing import Any

from carryover.models.hf_text import HFTextFamily


class Unlike:
    """Writes something else than what was trained, and stands by it."""

    name = "hf_text"

    def __getattr__(self, word: str) -> Any:
        return getattr(_TEXT, word)

    def dump(self, config: Any, branch: Any, preprocessor: Any, folder: Path) -> None:
        for name, layer in list(branch.encoder.named_modules()):
            if name.endswith("query"):
                layer.weight.data = layer.weight.data * 1.05
        _TEXT.dump(config, branch, preprocessor, folder)


class Torn(Unlike):
    """Loses one weight, which its library then starts anew."""

    def dump(self, config: Any, branch: Any, preprocessor: Any, folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        _TEXT.dump(config, branch, preprocessor, folder)
        weights = load_file(folder / "model.safetensors")
        weights.pop(sorted(weights)[0])
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


class Mute:
    """Has no dump."""

    name = "hf_text"
    fuses = False


_TEXT = HFTextFamily()
UNLIKE, TORN, MUTE = Unlike(), Torn(), Mute()
