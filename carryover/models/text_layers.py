"""Owns the torch module of `hf_text`: a transformers encoder, how its states become a row's features, and a head."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from carryover.models.family import Output
from carryover.models.layers import freeze_unreached, head

if TYPE_CHECKING:
    from carryover.models.text_ids import Layout


class TextEncoder(nn.Module):
    """A transformers encoder, its pooling and a head; reads "ids", "mask" and, where the encoder has them, "segments".

    `encoder` is used as it is: the states of its last layer, [B, L, F], pooled to [B, F]. Of a siamese layout the
    inputs are [B, 2, L], both columns go through the same encoder, and the features are `compare` of the two, [B, 4F].
    """

    backbones = ("encoder",)

    def __init__(self, encoder: nn.Module, layout: "Layout", *, pooling: str, num_outputs: int | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.siamese = layout.siamese
        self.start: nn.Parameter | None = None
        if layout.learned_start:
            # The separator's vector has the scale that this encoder expects.
            table: Any = self._embeddings()
            self.start = nn.Parameter(table.weight[layout.separator].detach().clone())
        pooled = self._trial(layout)
        width = pooled.shape[-1]
        self.out_features = 4 * width if layout.siamese else width
        # An encoder may carry parts that this use of it never reaches (Longformer's global attention).
        freeze_unreached(self.encoder, pooled)
        self.head = _comparing_head(layout, width, num_outputs) if layout.siamese else head(width, num_outputs)

    def forward(self, features: Mapping[str, Tensor]) -> Output:
        ids, mask, segments = features["ids"], features["mask"], features.get("segments")
        if self.siamese:
            ids, mask, segments = (
                ids.flatten(0, 1),
                mask.flatten(0, 1),
                None if segments is None else segments.flatten(0, 1),
            )
        pooled = self._pooled(ids, mask, segments)
        if self.siamese:
            pooled = compare(*pooled.unflatten(0, (-1, 2)).unbind(1))
        return Output(pooled, None if self.head is None else self.head(pooled))

    def _pooled(self, ids: Tensor, mask: Tensor, segments: Tensor | None) -> Tensor:
        inputs: dict[str, Tensor] = {"input_ids": ids} if self.start is None else {"inputs_embeds": self._started(ids)}
        if segments is not None:
            inputs["token_type_ids"] = segments
        states = self.encoder(attention_mask=mask, **inputs).last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

    def _started(self, ids: Tensor) -> Tensor:
        assert self.start is not None
        words = self._embeddings()(ids)
        start = self.start.to(words.dtype).expand(len(ids), 1, -1)
        return torch.cat([start, words[:, 1:]], dim=1)

    def _embeddings(self) -> nn.Module:
        # Every transformers model has it; a bare nn.Module's attributes are typed as tensors.
        return self.encoder.get_input_embeddings()  # type: ignore[operator]

    def _trial(self, layout: "Layout") -> Tensor:
        """Run a short sequence of separators through the encoder: what it reaches and how wide it is, nothing more."""
        ids = torch.full((2, 4), layout.separator, dtype=torch.long)
        training = self.encoder.training
        self.encoder.eval()
        with torch.enable_grad():
            states = self._pooled(ids, torch.ones_like(ids), torch.zeros_like(ids) if layout.segments else None)
        self.encoder.train(training)
        return states


def compare(one: Tensor, other: Tensor) -> Tensor:
    """Return [B, 4F] features of two embeddings [B, F]: one * other, |one - other|, one, other.

    Both are first scaled to a root mean square of 1, so that the mean of the first F features is their cosine: a linear
    layer reads it, whatever the width. The others are what sentence-BERT's classifier reads (Reimers and Gurevych,
    "Sentence-BERT", EMNLP 2019).
    """
    scale = one.shape[-1] ** 0.5
    one, other = (functional.normalize(side, dim=-1) * scale for side in (one, other))
    return torch.cat([one * other, (one - other).abs(), one, other], dim=-1)


class CosineHead(nn.Module):
    """A number [B, 1] from the features of `compare`: slope * cosine + offset, both learned.

    It has no other weights: over all 4F features a thousand rows are soon known by heart (docs/decisions.md).
    """

    def __init__(self, width: int, *, slope: float, offset: float) -> None:
        super().__init__()
        self.width = width
        self.line = nn.Linear(1, 1)
        nn.init.constant_(self.line.weight, slope)
        nn.init.constant_(self.line.bias, offset)

    def forward(self, features: Tensor) -> Tensor:
        return self.line(features[:, : self.width].mean(dim=1, keepdim=True))


def _comparing_head(layout: "Layout", width: int, num_outputs: int | None) -> nn.Module | None:
    """Return what maps the features of `compare` to logits, None where none are asked for."""
    if layout.cosine is not None and num_outputs is not None:
        slope, offset = layout.cosine
        return CosineHead(width, slope=slope, offset=offset)
    layer = head(4 * width, num_outputs)
    if layer is not None:
        # Which way classes lie is not known; noise over so many features would hide what the encoder knows.
        nn.init.zeros_(layer.weight)
    return layer
