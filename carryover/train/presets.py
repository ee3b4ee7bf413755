"""Owns the presets: names under which people ask for a whole set of keys. Needs no torch.

A preset sets keys of the recipe, and a person's keys win over it. The run is known by the keys that come of it, so that
a run whose preset changes with a release stays what it was.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from carryover.ground.config import check, nearest
from carryover.ground.errors import WrongInput

KEY = "presets"
_TEXT, _IMAGE = "model.hf_text.checkpoint_name", "model.timm_image.checkpoint_name"
_DETECTOR = "model.mmdet_image.checkpoint_name"
# A backbone -> why it and no other; licences let it be used for anything.
BACKBONES = {
    "jhu-clsp/ettin-encoder-32m": "32 M parameters made as ModernBERT's, on open data: fast, and trained on far more "
    "text than older small models; MIT",
    "jhu-clsp/ettin-encoder-150m": "GLUE 88.9, ModernBERT-base has 88.4, by its authors' measure; long texts at speed; "
    "MIT",
    "microsoft/deberta-v3-large": "still what learns most from few rows where encoders are compared on the same data "
    "(arXiv 2504.08716); slow; MIT",
    "jhu-clsp/mmBERT-base": "1,800 languages; ahead of XLM-R on classification, and faster, by its "
    "authors' measure; MIT",
    "mobilenetv4_conv_medium.e250_r384_in12k_ft_in1k": "10 M parameters that saw ImageNet-12k before ImageNet-1k: "
    "small and fast; Apache-2.0",
    "caformer_b36.sail_in22k_ft_in1k": "87.4 % on ImageNet at 224 pixels, without BatchNorm, so that ranks agree; "
    "Apache-2.0",
    "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k": "90.1 % on ImageNet, the most that timm lists; 448 pixels; MIT",
    "facebook/sam-vit-huge": "the largest SAM, AutoMM's too: 641 M parameters that saw 1.1 billion masks; Apache-2.0",
    "yolox_l_8x8_300e_coco": "54 M parameters, COCO 49.4: fast, and exact for its size; Apache-2.0",
    "dino-4scale_r50_8xb2-12e_coco": "48 M parameters, COCO 49.0: AutoMM's, its BatchNorm stays as it was; Apache-2.0",
    "dino-5scale_swin-l_8xb2-36e_coco": "218 M parameters, COCO 58.4: the most that mmdet has without other data; "
    "Apache-2.0",
}
_HIGH = {_TEXT: "jhu-clsp/ettin-encoder-150m", _IMAGE: "caformer_b36.sail_in22k_ft_in1k"}
# Adapters beside the attention of SAM's vision encoder; its mask decoder learns whole.
_SEGMENTATION = {
    "model.sam.checkpoint_name": "facebook/sam-vit-huge",
    "env.batch_size": 4,
    "env.per_gpu_batch_size": 1,
    "env.eval_batch_size_ratio": 1,
    "optimization.lr_choice": "",
    "optimization.lr_schedule": "polynomial_decay",
    "optimization.warmup_steps": 0.0,
    "optimization.weight_decay": 1e-4,
    "optimization.max_epochs": 30,
    "optimization.val_check_interval": 1.0,
    "optimization.top_k_average_method": "best",
    "optimization.peft": "lora",
    "optimization.lora.r": 3,
    "optimization.lora.alpha": 32.0,
    "optimization.lora.filter": ["q", "v"],
    "optimization.lora.module_filter": [".*vision_encoder.*attn"],
    "optimization.extra_trainable_params": [".*mask_decoder"],
}
# AutoMM's: a detector that was trained with this much care moves little, and its new heads ten times as fast.
_DETECTION = {
    _DETECTOR: "dino-4scale_r50_8xb2-12e_coco",
    "env.batch_size": 32,
    "env.per_gpu_batch_size": 1,
    "env.eval_batch_size_ratio": 1,
    "optimization.learning_rate": 1e-5,
    "optimization.weight_decay": 1e-4,
    "optimization.lr_choice": "two_stages",
    "optimization.lr_mult": 10.0,
    "optimization.lr_schedule": "multi_step",
    "optimization.gradient_clip_val": 0.1,
    "optimization.max_epochs": 60,
    "optimization.patience": 20,
    "optimization.val_check_interval": 1.0,
    "optimization.top_k": 1,
    "optimization.top_k_average_method": "best",
}
# A micro-batch of one picture is little for YOLOX' BatchNorm.
_FAST_DETECTION = {
    **_DETECTION,
    _DETECTOR: "yolox_l_8x8_300e_coco",
    "env.per_gpu_batch_size": 4,
    "optimization.learning_rate": 5e-5,
    "optimization.lr_mult": 100.0,
    "optimization.lr_schedule": "cosine_decay",
    "optimization.max_epochs": 50,
}
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "medium_quality": {
            _TEXT: "jhu-clsp/ettin-encoder-32m",
            _IMAGE: "mobilenetv4_conv_medium.e250_r384_in12k_ft_in1k",
            "optimization.learning_rate": 4e-4,
        },
        "high_quality": _HIGH,
        "default": _HIGH,
        "best_quality": {
            _TEXT: "microsoft/deberta-v3-large",
            _IMAGE: "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k",
            "env.per_gpu_batch_size": 1,
        },
        "multilingual": {
            _TEXT: "jhu-clsp/mmBERT-base",
            _IMAGE: "caformer_b36.sail_in22k_ft_in1k",
            "optimization.top_k": 1,
            "env.per_gpu_batch_size": 4,
        },
        "object_detection": _DETECTION,
        "object_detection_medium_quality": _FAST_DETECTION,
        "object_detection_high_quality": _DETECTION,
        "object_detection_best_quality": {**_DETECTION, _DETECTOR: "dino-5scale_swin-l_8xb2-36e_coco"},
        "semantic_segmentation": _SEGMENTATION,
    }
)
# What AutoMM's presets set and ours do not -> why.
LEFT_OUT = {
    "model.names": "models are chosen by the columns; 'ft_transformer' for tables is one key away",
    "optimization.loss_func structure_loss of semantic_segmentation": "auto is that for two classes, and suits more",
    "env.per_gpu_batch_size 1 of object detection, medium_quality": "little for a BatchNorm; 4 of the same 32",
    "env.precision 32 of multilingual": "mDeBERTa overflows in 16 bits; mmBERT is another architecture",
}


def expanded(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys (dotted, canonical) with those that their preset sets put below them.

    Raises:
        WrongInput: for a preset that there is not.
    """
    name = flat.get(KEY) or ""
    if not name:
        return dict(flat)
    if isinstance(name, str) and name.endswith("_hpo"):
        raise WrongInput(
            f"{KEY}: '{name}' is not possible: trying out hyperparameters is not there; give the keys",
            trouble="not-supported",
        )
    known = name if isinstance(name, str) else ""
    near = nearest(known, PRESETS)
    check(known in PRESETS, KEY, name, f"one of {', '.join(PRESETS)}" + (f"; did you mean '{near}'?" if near else ""))
    return {**PRESETS[known], **flat}


def words_of(flat: Mapping[str, Any]) -> list[str]:
    """Return what the preset of these keys does, one line a key; a key that a person gave is not its doing."""
    name = flat.get(KEY) or ""
    lines = []
    for key, value in PRESETS.get(name, {}).items():
        if flat.get(key) == value:
            why = BACKBONES.get(str(value), "")
            lines.append(f"{KEY} {name}: {key} = {value}" + (f" ({why})" if why else ""))
    return lines
