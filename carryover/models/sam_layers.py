"""Owns the torch modules of `sam`: a SAM model without prompts, and the head that has a mask for each class.

    pixels [B, 3, S, S] --vision encoder--> [B, D, S/16, S/16] --mask decoder--> [B, D/8, S/4, S/4]
                      tokens of the classes ------------------------^  └--> [B, T, D] --MLPs--> [B, T, D/8]
    logits [B, C, S/4, S/4]: the product of the two; of two classes the first has 0, and the other what is told

The decoder is asked as SAM is without points, boxes and masks. Each class has tokens and an MLP for each of its own, as
SAM has for each of its masks (Kirillov et al., arXiv:2304.02643); they start from SAM's first ones.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from carryover.ground.errors import WrongInput
from carryover.models.family import Output
from carryover.models.image_layers import Scaling

# What no mask without prompts depends on: SAM's own masks and prompts, and its guess of how good a mask is. The places
# of pixels are random features, which were never trained.
_UNREACHED = (
    *("prompt_encoder.mask_embed.", "prompt_encoder.point_embed.", "prompt_encoder.not_a_point_embed."),
    *("mask_decoder.mask_tokens.", "mask_decoder.output_hypernetworks_mlps.", "mask_decoder.iou_prediction_head."),
    *("shared_image_embedding.", "prompt_encoder.shared_embedding."),
)
# Tokens that start alike and serve alike would stay alike.
_SPREAD = 0.02


class Segmenter(nn.Module):
    """Reads "pixels" uint8[B, 3, S, S]; gives logits [B, C, S/4, S/4], and the decoder's features of all pixels, flat.

    Args:
        model: transformers' SamModel.
        frozen: parts of names in `model`; what has one of them in its name stays as it is.
        num_outputs: C, at least 2.
        tokens: mask tokens in all; each class that has a mask has as many as it can of them, at least one.

    Raises:
        WrongInput: when nothing has a name with one of `frozen`.
    """

    backbones = ("model",)

    def __init__(self, model: Any, scaling: Scaling, *, frozen: Iterable[str], num_outputs: int, tokens: int) -> None:
        super().__init__()
        self.model = model
        self.scaling = scaling
        self.head = MaskHead(model.mask_decoder, classes=num_outputs, tokens=tokens)
        decoder, side = model.config.mask_decoder_config, 4 * model.config.prompt_encoder_config.image_embedding_size
        self.out_features = decoder.hidden_size // 8 * side * side
        _freeze(model, tuple(frozen))
        _keep_positions(model)

    def forward(self, features: Mapping[str, Tensor]) -> Output:
        seen = self.model.vision_encoder(self.scaling(features["pixels"])).last_hidden_state
        told, pixels = self._decoded(seen)
        return Output(pixels.flatten(1), self.head(told, pixels))

    def begin_head(self) -> None:
        """Start the head from the model as it is now: weights may have come after it was built."""
        self.head.begin(self.model.mask_decoder)

    def _decoded(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the decoder makes of the classes' tokens [B, T, D], and of the pixels [B, D/8, S/4, S/4]."""
        decoder, count = self.model.mask_decoder, len(seen)
        tokens = torch.cat([decoder.iou_token.weight, self.head.mask_tokens]).expand(count, 1, -1, -1)
        _, no_mask = self.model.prompt_encoder(input_points=None, input_labels=None, input_boxes=None, input_masks=None)
        places = self.model.get_image_wide_positional_embeddings().repeat(count, 1, 1, 1)
        told, keys = decoder.transformer(
            point_embeddings=tokens,
            image_embeddings=seen + no_mask,
            image_positional_embeddings=places,
            attention_similarity=None,
        )
        pixels = decoder.upscale_conv1(keys.transpose(2, 3).reshape(seen.shape))
        pixels = decoder.activation(decoder.upscale_layer_norm(pixels))
        return told[:, 0, 1:], decoder.activation(decoder.upscale_conv2(pixels))


class MaskHead(nn.Module):
    """Tokens [T, D] that the decoder is given, and what makes logits of its answers; started from SAM's first mask."""

    def __init__(self, decoder: Any, *, classes: int, tokens: int) -> None:
        super().__init__()
        # Of two classes, one is what the other is not.
        self.masks = 1 if classes == 2 else classes
        self.each = max(1, tokens // self.masks)
        count = self.masks * self.each
        self.mask_tokens = nn.Parameter(torch.empty(count, decoder.hidden_size))
        mlp = decoder.output_hypernetworks_mlps[0]
        self.mlps = nn.ModuleList(Stacked(layer, count) for layer in (mlp.proj_in, *mlp.layers, mlp.proj_out))
        self.begin(decoder)

    @torch.no_grad()
    def begin(self, decoder: Any) -> None:
        """Start from a decoder's first mask."""
        self.mask_tokens.copy_(decoder.mask_tokens.weight[0])
        if len(self.mask_tokens) > 1:
            self.mask_tokens.add_(_SPREAD * torch.randn_like(self.mask_tokens))
        mlp = decoder.output_hypernetworks_mlps[0]
        for place, layer in enumerate((mlp.proj_in, *mlp.layers, mlp.proj_out)):
            self.get_parameter(f"mlps.{place}.weight").copy_(layer.weight)
            self.get_parameter(f"mlps.{place}.bias").copy_(layer.bias)

    def forward(self, told: Tensor, pixels: Tensor) -> Tensor:
        """Return logits [B, C, h, w] from answers [B, T, D] and pixels [B, D/8, h, w]."""
        for place, layer in enumerate(self.mlps):
            told = layer(told.relu() if place else told)
        logits = torch.einsum("btd,bdhw->bthw", told, pixels)
        if self.each > 1:
            # The best of a class's masks at each pixel, smoothly; where they agree, what they agree on.
            logits = logits.unflatten(1, (self.masks, self.each)).logsumexp(dim=2) - math.log(self.each)
        return torch.cat([torch.zeros_like(logits), logits], dim=1) if self.masks == 1 else logits


class Stacked(nn.Module):
    """[B, T, N] -> [B, T, M]: a linear layer, shaped as `layer`, for each of T tokens."""

    def __init__(self, layer: nn.Linear, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, *layer.weight.shape))
        self.bias = nn.Parameter(torch.empty(count, *layer.bias.shape))

    def forward(self, told: Tensor) -> Tensor:
        return torch.einsum("btn,tmn->btm", told, self.weight) + self.bias


def _keep_positions(model: Any) -> None:
    """Have the attention layers read their tables of relative positions as they are.

    transformers interpolates each at every pass, to the size that it has already; the gradient of that is not
    deterministic on a GPU, where torch may refuse it.
    """
    for layer in model.vision_encoder.layers:
        if layer.attn.use_rel_pos:
            layer.attn.get_rel_pos = _relative


def _relative(queries: int, keys: int, table: Tensor) -> Tensor:
    """Return positions [queries, keys, d] from a table [2 * keys - 1, d]; both numbers are the same."""
    assert queries == keys == (len(table) + 1) // 2
    along = torch.arange(keys, device=table.device)
    return table[along[:, None] - along[None, :] + keys - 1]


def _freeze(model: nn.Module, frozen: tuple[str, ...]) -> None:
    # (Shared ones have several names.)
    named = list(model.named_parameters(remove_duplicate=False))
    strange = [part for part in frozen if not any(part in name for name, _ in named)]
    if strange:
        parts = ", ".join(sorted({".".join(name.split(".")[:2]) for name, _ in named}))
        raise WrongInput(f"model.sam.frozen_layers: '{strange[0]}' is in no name; the model's parts are {parts}")
    for name, parameter in named:
        if name.startswith(_UNREACHED) or any(part in name for part in frozen):
            parameter.requires_grad_(False)
