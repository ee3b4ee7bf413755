"""Owns the list of model families: one line a family, imported on first use."""

from carryover.ground.registry import Registry

FAMILIES = Registry(
    "model family",
    {
        "categorical_mlp": "carryover.models.categorical_mlp:FAMILY",
        "ft_transformer": "carryover.models.ft_transformer:FAMILY",
        "fusion_mlp": "carryover.models.fusion_mlp:FAMILY",
        "hf_text": "carryover.models.hf_text:FAMILY",
        "numerical_mlp": "carryover.models.numerical_mlp:FAMILY",
        "timm_image": "carryover.models.timm_image:FAMILY",
    },
    group="carryover.families",
)

# What is looked for when the recipe names nothing; a family beyond these (or from another package) has to be named.
DEFAULT_NAMES = ("hf_text", "numerical_mlp", "categorical_mlp", "fusion_mlp")
