"""Owns what AutoMM has and we do not: the words that say why, and what to use instead. Needs no torch.

A key or a value that stands here is an error; nothing is accepted and ignored.
"""

from collections.abc import Mapping

from carryover.ground.errors import WrongInput
from carryover.models.registry import REFUSED

_PROPOSALS = "of proposals that are matched with objects; here each class has a mask, and loss_func auto suits it"
_LEMDA = "augmentation by a second, adversarial network (LeMDA) is not there; model.* has augmentations of its own"
_MATCHING = "matching of pairs by a contrastive loss is not there; model.hf_text compares two text columns"
_DEEPSPEED = "sharding of a model over GPUs (DeepSpeed, FSDP) is not there; ddp holds all of it on each"
_ADAPTERS = "a mix of two kinds of adapters, which is not there; take lora, ia3, or one of them with _bias or _norm"
_CONV_LORA = "of SAM's own adapters for segmentation, which are not there; lora adapts convolutions too, by lora.filter"
_HALF = "holding the weights themselves in half precision, which loses small updates; use {}-mixed"
# A key, or a section of keys -> why.
KEYS: dict[str, str] = {
    "optimization.automatic_optimization": "belongs to LeMDA, which is not there; steps are always taken as usual",
    "optimization.cross_modal_align": _MATCHING,
    "optimization.cross_modal_align_weight": _MATCHING,
    "optimization.lemda": _LEMDA,
    "optimization.lora.conv_lora_expert_num": f"is {_CONV_LORA}",
    "optimization.mask2former_loss": f"is {_PROPOSALS}",
}
KEYS |= {
    "env.auto_select_gpus": "rank N takes the N-th GPU that it may see; CUDA_VISIBLE_DEVICES or the cluster says which",
    "env.deepspeed_allgather_size": _DEEPSPEED,
    "env.deepspeed_allreduce_size": _DEEPSPEED,
    "env.num_nodes": "a step is the ranks of one machine; leave it out",
    "env.per_gpu_batch_size_evaluation": "give env.eval_batch_size_ratio, a multiple of env.per_gpu_batch_size",
}
_HF_TEXT = {
    "data_types": "always so: hf_text reads the text columns",
    "low_cpu_mem_usage": "always so: transformers 5 opens weights without a second copy and has no other way",
    "use_fast": "always so: transformers 5 has fast tokenizers only",
}
KEYS |= {f"model.hf_text.{name}": f"is {why}; leave it out" for name, why in _HF_TEXT.items()}
_CLIP = {
    "data_types": "it reads what image and text columns there are; leave it out",
    "image_chan_num": "images are read as red, green and blue; leave it out",
    "insert_sep": "a CLIP encoder reads a text up to its first end, so columns stand without one between; leave it out",
    "text_segment_num": "encoders of CLIP have no segments; leave it out",
}
KEYS |= {f"model.clip.{name}": why for name, why in _CLIP.items()}
_SAM = {
    "data_types": "it reads a picture and its mask; leave it out",
    "max_image_num_per_column": "a mask belongs to one picture, so the first readable one counts; leave it out",
    "max_img_num_per_col": "a mask belongs to one picture, so the first readable one of a row counts; leave it out",
}
KEYS |= {f"model.sam.{name}": why for name, why in _SAM.items()}
_MMDET = {
    "data_types": "it reads a picture and its boxes; leave it out",
    "max_img_num_per_col": "boxes belong to one picture, so the first readable one of a row counts; leave it out",
}
KEYS |= {f"model.mmdet_image.{name}": why for name, why in _MMDET.items()}
_TABLE = "what it reads is fixed; --column-type of prepare-data says what a column is"
_MERGE = "columns are always concatenated; leave it out"
KEYS |= {f"model.{family}": why for family, why in REFUSED.items()}
KEYS |= {
    "data.column_features_pooling_mode": "is of few-shot learning, which is out of scope; leave it out",
    "data.document": REFUSED["document_transformer"],
    "data.templates": REFUSED["t_few"],
    "model.categorical_mlp.data_types": _TABLE,
    "model.ft_transformer.merge": _MERGE,
    "model.fusion_mlp.data_types": "it joins what model.names has; leave it out",
    "model.numerical_mlp.data_types": _TABLE,
    "model.numerical_mlp.merge": _MERGE,
}
_FEATURES = "comparing features inside two networks is not there; distiller.soft_label_* learn from a teacher's answers"
KEYS |= {
    "distiller.matches": _FEATURES,
    "distiller.output_feature_loss_type": _FEATURES,
    "distiller.output_feature_loss_weight": _FEATURES,
    "distiller.rkd_angle_loss_weight": _FEATURES,
    "distiller.rkd_distance_loss_weight": _FEATURES,
    "distiller.softmax_regression_loss_type": _FEATURES,
    "distiller.softmax_regression_weight": _FEATURES,
}
_SHARDED = ("deepspeed", "deepspeed_stage_2", "deepspeed_stage_2_offload", "deepspeed_stage_3", "fsdp")
# Key -> value -> why.
VALUES: dict[str, dict[str, str]] = {
    "env.precision": {"16-true": _HALF.format(16), "bf16-true": _HALF.format("bf16")},
    "env.strategy": dict.fromkeys((*_SHARDED, "deepspeed_stage_3_offload"), f"not possible: {_DEEPSPEED}"),
    "optimization.peft": {
        **dict.fromkeys(("ia3_lora", "ia3_lora_bias", "ia3_lora_norm", "Ia3_lora_norm"), _ADAPTERS),
        "conv_lora": _CONV_LORA,
    },
    "optimization.loss_func": {"mask2former_loss": _PROPOSALS},
}


def check_known(flat: Mapping[str, object]) -> None:
    """Raise WrongInput for the first of these keys (dotted, canonical) that we have on purpose not."""
    for name, value in flat.items():
        parts = name.split(".")
        sections = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
        why = next((KEYS[section] for section in sections if section in KEYS), "")
        if why:
            raise WrongInput(f"{name}: {why}")
        if isinstance(value, str) and (why := VALUES.get(name, {}).get(value, "")):
            raise WrongInput(f"{name}: '{value}' is {why}")
