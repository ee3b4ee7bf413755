"""Owns how encoders of transformers are dumped, as folders that it opens alone, and how they are opened again.

    folder/config.json, model.safetensors     what AutoModel.from_pretrained(folder) reads
           tokenizer.json …                   AutoTokenizer
           preprocessor_config.json           AutoImageProcessor, of clip

A part that was never trained here is not written: poolers that nothing read, decoders, the other tower of a CLIP model
that read one kind of column. transformers says so when it opens the folder, and starts that part anew.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.ground.errors import WrongInput
from carryover.ground.uris import is_member
from carryover.models.hf_source import encoder_half, quiet

if TYPE_CHECKING:
    from torch import nn

    from carryover.models.clip_source import Config
    from carryover.models.pixels import Pixels

PROCESSORS = {"clip": "CLIPImageProcessor", "siglip": "SiglipImageProcessor", "siglip2": "Siglip2ImageProcessor"}


def write_encoder(encoder: Any, config: Mapping[str, Any], folder: Path) -> None:
    """Write an encoder of text; one that is half of an encoder-decoder model by that whole model's names.

    Args:
        config: of the whole model, as `hf_source.open_config` gives it.
    """
    whole = _made(config, encoder)
    half = encoder_half(whole)
    half.load_state_dict(encoder.state_dict())
    _save(whole, [half], folder)


def write_towers(towers: Mapping[str, "nn.Module"], config: Mapping[str, Any], folder: Path) -> None:
    """Write parts of a CLIP or SigLIP model.

    Args:
        towers: attribute of the whole model -> part.
        config: of the whole model; its parts are told the width that they project to, so that each opens alone.
    """
    width = {"projection_dim": config["projection_dim"]} if "projection_dim" in config else {}
    inner = {name: {**config[name], **width} for name in ("text_config", "vision_config")}
    whole = _made({**config, **inner}, next(iter(towers.values())))
    for name, part in towers.items():
        setattr(whole, name, part)
    _save(whole, towers.values(), folder)


def _made(config: Mapping[str, Any], like: "nn.Module") -> Any:
    """Return the whole model with weights of chance, of the same dtype as one of its parts."""
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    with quiet():
        parsed = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
        return AutoModel.from_config(parsed, dtype=next(like.parameters()).dtype, trust_remote_code=False)


def _save(whole: Any, parts: Iterable["nn.Module"], folder: Path) -> None:
    """Write a transformers model's config, and of its weights those of some parts."""
    own = {id(value) for part in parts for value in part.state_dict(keep_vars=True).values()}
    state = {name: value for name, value in whole.state_dict(keep_vars=True).items() if id(value) in own}
    with quiet():
        whole.save_pretrained(folder, state_dict={name: value.detach() for name, value in state.items()})


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a tokenizer's files ("tokenizer/…") beside its encoder.

    Raises:
        WrongInput: for a name that leads elsewhere; nobody has checked those of a commit before.
    """
    for name, data in files.items():
        if not is_member(name):
            raise WrongInput(f"the file {name!r} is not inside its own folder; it is not written", trouble="bad-uri")
        (folder / name.removeprefix("tokenizer/")).write_bytes(data)


def opened(folder: Path) -> Any:
    """Return what transformers alone makes of a folder, in evaluation mode."""
    from transformers import AutoModel

    with quiet():
        return AutoModel.from_pretrained(folder, trust_remote_code=False, local_files_only=True).eval()


def opened_encoder(folder: Path) -> Any:
    """Return the encoder that transformers alone makes of a folder, in evaluation mode."""
    return encoder_half(opened(folder))


def write_image_processor(config: "Config", pixels: "Pixels", folder: Path) -> None:
    """Write what AutoImageProcessor reads: the size and the norm that the images tower was trained with."""
    import transformers

    size = pixels.size
    wanted: dict[str, Any] = {"image_mean": list(pixels.mean), "image_std": list(pixels.std)}
    if config.kind == "clip":
        wanted |= {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    elif config.kind == "siglip":
        wanted |= {"size": {"height": size, "width": size}}
    else:
        patch = config.plain["vision_config"]["patch_size"]
        wanted |= {"patch_size": patch, "max_num_patches": (size // patch) ** 2}
    with quiet():
        getattr(transformers, PROCESSORS[config.kind])(**wanted).save_pretrained(folder)
