"""Owns how an encoder and its tokenizer are found and opened: a local folder or a hub name, through transformers.

Everything here that needs transformers imports it when called; `check_source` needs nothing.

A checkpoint is data of others. Code that it brings along is never run: transformers would otherwise ask on the console
whether it may, and a pipe that says yes would be an answer. Of pickled weights only tensors are read, unless a person
trusts them for this start (trust.py).
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carryover.ground.console import warn
from carryover.ground.errors import WrongInput
from carryover.models import trust

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)
# Names that AutoMM has -> transformers' classes; ELECTRA's is BERT's.
TOKENIZER_KINDS = {
    "hf_auto": "AutoTokenizer",
    "bert": "BertTokenizer",
    "electra": "ElectraTokenizer",
    "clip": "CLIPTokenizer",
}
# These count positions from behind the padding id, so their tables hold that many rows less than they say.
SHIFTED_POSITIONS = frozenset(
    "camembert data2vec-text ibert longformer roberta".split()
    + "roberta-prelayernorm xlm-roberta xlm-roberta-xl xmod".split()
)
KEY = "model.hf_text.checkpoint_name"
# Stands in a Model for the folder that its weights once came from.
LOCAL = "local"
# Before it, a crafted pickle got past weights_only: CVE-2025-32434 (up to 2.5), CVE-2026-24747 (up to 2.9).
OLDEST_TORCH = (2, 10)
# Mean and deviation of pixels, one number a channel.
Norm = tuple[tuple[float, ...], tuple[float, ...]]


def is_folder(name: str) -> bool:
    """Tell whether a checkpoint name means a folder on this machine: it is one, or it is spelled as a path."""
    return os.path.isdir(os.path.expanduser(name)) or name.startswith((".", "/", "~")) or name.count("/") > 1


def portable_name(name: str) -> str:
    """Return a checkpoint's name as a Model keeps it: the same folder may lie elsewhere tomorrow."""
    return LOCAL if is_folder(name) else name


def check_source(name: str, *, pretrained: bool, key: str = KEY, tokenizer: bool = True) -> str:
    """Check without torch that a checkpoint can be opened, as far as a look at the files tells.

    Args:
        key: of the recipe, which named it; here and below, for messages.
        tokenizer: whether it must have one.

    Returns:
        the config's model_type where it lies in a folder, else "".

    Raises:
        WrongInput: for a folder that is not there or lacks a file; for a hub name that is not in the cache while
            HF_HUB_OFFLINE forbids to fetch it.
    """
    if not is_folder(name):
        _check_hub_name(name, key)
        return ""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise WrongInput(f"{key}: there is no folder {name}; give a folder that transformers wrote, or a hub name")
    if not (folder / "config.json").is_file():
        raise WrongInput(f"{key}: {name} has no config.json; give a folder that transformers wrote")
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
    except ValueError as error:
        raise WrongInput(f"{key}: {name}/config.json is not JSON: {error}") from error
    if not kind:
        raise WrongInput(f"{key}: {name}/config.json names no model_type, so transformers cannot open it")
    if tokenizer and not any((folder / file).is_file() for file in TOKENIZERS):
        raise WrongInput(f"{key}: {name} has no tokenizer ({', '.join(TOKENIZERS[:3])}...)")
    if pretrained and not any((folder / file).is_file() for file in WEIGHTS):
        section = key.rpartition(".")[0]
        raise WrongInput(
            f"{key}: {name} has no weights ({', '.join(WEIGHTS)}); for random ones set {section}.pretrained: false"
        )
    return kind


def _check_hub_name(name: str, key: str) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE"):
        return
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(name, "config.json"), str):
        raise WrongInput(
            f"{key}: '{name}' is not in the hub's cache and HF_HUB_OFFLINE is set; give a local folder",
            trouble="hub-offline",
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' reports and progress bars inside the block, and put both back after it."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


_NO_HUB = "cannot be opened: the hub does not answer"


@contextmanager
def _opening(what: str, name: str, key: str) -> Iterator[None]:
    """Turn what transformers says about a checkpoint it cannot open into one line."""
    try:
        with quiet():
            yield
    except Exception as error:
        why = _why(error)
        if not why:
            raise
        trouble = "hub-offline" if why.startswith(_NO_HUB) else ""
        raise WrongInput(f"{key}: the {what} of '{name}' {why}", trouble=trouble) from error


def _why(error: Exception) -> str:
    """Return why a checkpoint cannot be opened, "" for an error that is not about the checkpoint."""
    line = " ".join(str(error).split())
    if "trust_remote_code" in line:
        return (
            "needs code that comes with the checkpoint, which is never run here; use an encoder that transformers "
            "knows itself"
        )
    # By its name: the module that it is of is one that we do not import.
    if type(error).__name__ == "UnpicklingError":
        return (
            "holds more than tensors, which could be code; nothing of it was run: use a checkpoint with "
            f"model.safetensors, or {trust.FLAG} where you trust whoever made it with this machine and its secrets"
        )
    # (Safetensors' own error is a plain Exception.)
    known = isinstance(error, (OSError, ValueError, RuntimeError)) or type(error).__name__ == "SafetensorError"
    known = known and not isinstance(error, WrongInput)
    if known and "couldn't connect to" in line.lower():
        return f"{_NO_HUB}, and it is not in the cache; give a local folder, or a name that is in the cache"
    return f"cannot be opened: {line[:300]}" if known else ""


def open_config(name: str, *, key: str = KEY) -> dict[str, Any]:
    """Return the encoder's config as a plain mapping that says nothing of where it came from."""
    from transformers import AutoConfig

    with _opening("config", name, key):
        config = AutoConfig.from_pretrained(os.path.expanduser(name), trust_remote_code=False)
    plain = json.loads(config.to_json_string(use_diff=False))
    for place in ("_name_or_path", "transformers_version"):
        plain.pop(place, None)
    # A layer that is skipped at random gets no gradient in that step, which DistributedDataParallel cannot have.
    plain.update({drop: 0.0 for drop in ("layerdrop", "encoder_layerdrop") if plain.get(drop)})
    return plain


def open_norm(name: str, default: Norm) -> Norm:
    """Return mean and deviation of pixels as a checkpoint's own processor has them, else `default`."""
    from transformers.image_processing_base import ImageProcessingMixin

    with quiet():
        try:
            said, _ = ImageProcessingMixin.get_image_processor_dict(os.path.expanduser(name))
        except OSError:
            # It has none: a bare model.
            return default
    mean, std = said.get("image_mean"), said.get("image_std")
    return (tuple(mean), tuple(std)) if mean and std else default


def open_tokenizer(name: str, kind: str = "hf_auto", *, key: str = KEY) -> tuple[Any, dict[str, bytes]]:
    """Return the fast tokenizer and its files (below tokenizer/) as transformers writes them.

    Args:
        kind: of `TOKENIZER_KINDS`, or the name of a class of transformers.
    """
    import transformers

    with _opening("tokenizer", name, key):
        made = getattr(transformers, TOKENIZER_KINDS.get(kind, kind))
        tokenizer = made.from_pretrained(os.path.expanduser(name), trust_remote_code=False)
    if not tokenizer.is_fast:
        raise WrongInput(f"{key}: '{name}' has no fast tokenizer (tokenizer.json); only those are supported")
    with tempfile.TemporaryDirectory() as folder, quiet():
        tokenizer.save_pretrained(folder)
        found = sorted(path for path in Path(folder).iterdir() if path.suffix in (".json", ".txt", ".jinja"))
        return tokenizer, {f"tokenizer/{path.name}": path.read_bytes() for path in found}


def position_limit(config: Mapping[str, Any], tokenizer_limit: int) -> int | None:
    """Return the most tokens the encoder takes; None when neither config nor tokenizer has a bound."""
    rows = config.get("max_position_embeddings") or 0
    if config.get("model_type") == "mpnet":
        # Its code has the padding id 1 written in, whatever its config says.
        rows -= 2
    elif config.get("model_type") in SHIFTED_POSITIONS:
        rows -= (config.get("pad_token_id") or 0) + 1
    # Tokenizers without a limit say 1e30.
    limits = [limit for limit in (rows, tokenizer_limit) if 0 < limit < 1_000_000]
    return min(limits, default=None)


def check_torch(version: str) -> None:
    """See that "only tensors" can be relied on.

    Raises:
        WrongInput: when this torch is older than that.
    """
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise WrongInput(
            f"{KEY}: weights of others can't be opened safely by torch {version} (CVE-2026-24747); it must be {oldest} "
            "or newer",
            trouble="missing-package",
        )


def _open_weights(config: Any, source: str, key: str) -> tuple[Any, dict[str, Any]]:
    """Return the model and what transformers reports of opening its weights."""
    import torch
    from transformers import AutoModel
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    how: dict[str, Any] = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    if trust.pickles_are_trusted():
        warn(f"{key}: where the weights of '{source}' are a pickle, code in it is run ({trust.FLAG})")
        if (weights := trust.run_pickles(source)) is not None:
            found = MODEL_MAPPING[type(config)]
            kind: Any = found[0] if isinstance(found, tuple) else found
            return kind.from_pretrained(None, state_dict=weights, **how)
    return AutoModel.from_pretrained(source, trust_remote_code=False, weights_only=True, **how)


def build_encoder(config: Mapping[str, Any], source: str | None, *, key: str = KEY) -> "nn.Module":
    """Return the encoder in float32: the encoder half of an encoder-decoder model, without an unused pooler.

    Args:
        config: what `open_config` gave.
        source: folder or hub name of the weights; None for random ones.

    Raises:
        WrongInput: when weights cannot be opened, or lack a part of the encoder.
    """
    import torch
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    check_torch(torch.__version__)
    with _opening("weights" if source else "config", source or str(config.get("model_type")), key):
        parsed = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
        if source is None:
            model, missing = AutoModel.from_config(parsed, dtype=torch.float32, trust_remote_code=False), []
        else:
            model, report = _open_weights(parsed, os.path.expanduser(source), key)
            missing = list(report["missing_keys"])
    names = {id(part): name for name, part in model.named_parameters(remove_duplicate=False)}
    encoder = encoder_half(model)
    lacking = sorted(set(missing) & {names[id(part)] for part in encoder.parameters()})
    if lacking:
        raise WrongInput(
            f"{key}: the weights of '{source}' lack {len(lacking)} tensors of the encoder, e.g. {lacking[0]}"
        )
    return encoder


def encoder_half(model: Any) -> Any:
    """Return the encoder of a transformers model, without its pooler: the model itself where it has no decoder."""
    encoder = model.get_encoder() if model.config.is_encoder_decoder or hasattr(model, "decoder") else model
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def save_memory(encoder: Any) -> None:
    """Have the encoder compute its layers' states anew in the backward pass instead of keeping them.

    Raises:
        WrongInput: when this kind of encoder cannot.
    """
    where = "model.hf_text.gradient_checkpointing"
    try:
        # The older way of torch needs an input with a gradient, and DistributedDataParallel to search for unused ones.
        encoder.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as error:
        raise WrongInput(
            f"{where}: {type(encoder).__name__} has no gradient checkpointing; leave it out", trouble="wrong-value"
        ) from error
