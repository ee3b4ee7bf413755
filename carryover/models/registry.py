"""Owns the list of model families: one line a family, imported on first use; and which of them a problem asks for."""

from collections.abc import Sequence

from carryover.ground.errors import WrongInput
from carryover.ground.registry import Registry

FAMILIES = Registry(
    "model family",
    {
        "categorical_mlp": "carryover.models.categorical_mlp:FAMILY",
        "clip": "carryover.models.clip:FAMILY",
        "ft_transformer": "carryover.models.ft_transformer:FAMILY",
        "fusion_mlp": "carryover.models.fusion_mlp:FAMILY",
        "hf_text": "carryover.models.hf_text:FAMILY",
        "mmdet_image": "carryover.models.mmdet_image:FAMILY",
        "numerical_mlp": "carryover.models.numerical_mlp:FAMILY",
        "sam": "carryover.models.sam:FAMILY",
        "timm_image": "carryover.models.timm_image:FAMILY",
    },
    group="carryover.families",
)

# What is looked for when the recipe names nothing; a family beyond these (or from another package) has to be named.
DEFAULT_NAMES = ("hf_text", "timm_image", "numerical_mlp", "categorical_mlp", "fusion_mlp")
# Problem type whose label belongs to a picture -> what is looked for there.
DENSE_NAMES: dict[str, tuple[str, ...]] = {"object_detection": ("mmdet_image",), "semantic_segmentation": ("sam",)}

# Models of AutoMM that are not here: why, and what to use instead.
_DOCUMENTS = "images of documents are out of scope; 'timm_image' reads pages as images, 'hf_text' reads their text"
_ENTITIES = "marking names in a text is out of scope; 'hf_text' reads whole texts"
_READING = "finding and reading text in images is out of scope"
REFUSED: dict[str, str] = {
    "document_transformer": _DOCUMENTS,
    "fusion_ner": _ENTITIES,
    "fusion_transformer": "a transformer over the branches is not there; 'fusion_mlp' joins them",
    "meta_transformer": "one transformer for all columns is not there; 'fusion_mlp' joins one model a kind of column",
    "mmocr_text_detection": _READING,
    "mmocr_text_recognition": _READING,
    "ner_text": _ENTITIES,
    "t_few": "few-shot T-Few is out of scope; 'hf_text' with optimization.efficient_finetune trains few parameters",
}

_IMAGES = {
    "max_img_num_per_col": "max_image_num_per_column",
    "train_transform_types": "train_transforms",
    "val_transform_types": "val_transforms",
}
# Family -> another spelling of a key, AutoMM's now or once -> ours.
KEY_ALIASES: dict[str, dict[str, str]] = {
    "categorical_mlp": {"dropout": "drop_rate"},
    "clip": _IMAGES,
    "ft_transformer": {
        "attention_n_heads": "attention_num_heads",
        "d_token": "token_dim",
        "ffn_d_hidden": "ffn_hidden_size",
        "n_blocks": "num_blocks",
    },
    "fusion_mlp": {"aux_loss_weight": "weight", "dropout": "drop_rate"},
    "numerical_mlp": {"d_token": "token_dim", "dropout": "drop_rate"},
    "sam": {f"{part}_transform_types": f"{part}_transforms" for part in ("train", "img", "gt")},
    "timm_image": _IMAGES,
}


def default_names(problem_type: str) -> tuple[str, ...]:
    """Return the families that are looked for where a recipe names none."""
    return DENSE_NAMES.get(problem_type, DEFAULT_NAMES)


def check_dense(families: Sequence[str], problem_type: str) -> None:
    """Raise WrongInput where a label that belongs to a picture is left to more than one family, or to another kind."""
    fitting = DENSE_NAMES.get(problem_type)
    if fitting and families and (len(families) > 1 or families[0] not in fitting):
        named = ", ".join(families)
        raise WrongInput(f"model.names: {problem_type} is learned by {' or '.join(fitting)} alone, not by {named}")
