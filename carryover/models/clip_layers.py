"""Owns the torch modules of `clip`: the towers of a CLIP or SigLIP model, a row's features from both, and a head."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from carryover.models.family import Output
from carryover.models.image_layers import ImageEncoder, Scaling
from carryover.models.layers import freeze_unreached, head

if TYPE_CHECKING:
    from carryover.models.clip_source import Config
    from carryover.models.pixels import Pixels
    from carryover.models.text_ids import Layout


class ImageTower(nn.Module):
    """Images [K, 3, S, S] -> embeddings [K, F] of length 1, by a transformers model's vision part and projection."""

    def __init__(self, model: Any, config: "Config", size: int) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        self.projection = getattr(model, "visual_projection", nn.Identity())
        self.patch = config.plain["vision_config"]["patch_size"] if config.kind == "siglip2" else 0
        self.resized = size != config.image_size

    def forward(self, images: Tensor) -> Tensor:
        if self.patch:
            patches, shapes = _patches(images, self.patch)
            mask = torch.ones(patches.shape[:2], dtype=torch.long, device=images.device)
            states = self.vision_model(patches, pixel_attention_mask=mask, spatial_shapes=shapes)
        else:
            states = self.vision_model(images, interpolate_pos_encoding=self.resized)
        return functional.normalize(self.projection(states.pooler_output), dim=-1)


class TextTower(nn.Module):
    """Ids [K, L] -> embeddings [K, F] of length 1, by a transformers model's text part and projection."""

    def __init__(self, model: Any, config: "Config", layout: "Layout") -> None:
        super().__init__()
        self.text_model = model.text_model
        self.projection = getattr(model, "text_projection", nn.Identity())
        # SigLIP saw each text at this length, filling and all, and reads the last place.
        self.filled = 0 if config.kind == "clip" else config.max_text_length
        self.padding = layout.padding
        freeze_unreached(self, self._trial(layout))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.filled:
            filled = functional.pad(ids, (0, self.filled - ids.shape[1]), value=self.padding)
            pooled = self.text_model(filled).pooler_output
        else:
            # No token sees those behind it, so the filling plays no part. The end is where the mask says, whatever the
            # config (those of OpenAI's own checkpoints name another token).
            states = self.text_model(ids).last_hidden_state
            pooled = states[torch.arange(len(ids), device=ids.device), mask.sum(dim=1) - 1]
        return functional.normalize(self.projection(pooled), dim=-1)

    def _trial(self, layout: "Layout") -> Tensor:
        """Run one short text through the tower: what it reaches, nothing more."""
        ids = torch.full((1, 2), layout.separator, dtype=torch.long)
        training = self.training
        self.eval()
        with torch.enable_grad():
            embedding = self(ids, torch.ones_like(ids))
        self.train(training)
        return embedding


class ClipEncoder(nn.Module):
    """Images, texts or both of a row -> features, and a head.

    Reads "pixels" and "count" as `ImageEncoder`; "ids", "mask" [B, L] and "has_text" [B]. An embedding has length
    sqrt(F), so that its numbers have the usual scale, and is 0 where a row has no image or no text. Features are the
    embedding [B, F]; of both [B, 3F]: image * text (whose mean is their cosine), image, text.
    """

    def __init__(
        self,
        model: nn.Module,
        config: "Config",
        *,
        pixels: "Pixels | None",
        layout: "Layout | None",
        learned: bool,
        num_outputs: int | None,
    ) -> None:
        super().__init__()
        self.images: ImageEncoder | None = None
        self.texts: TextTower | None = None
        width = 0
        if pixels is not None:
            tower = ImageTower(model, config, pixels.size)
            scaling = Scaling(pixels.mean, pixels.std)
            self.images = ImageEncoder(
                tower, scaling, pixels.size, average="all_logits", learned=learned, num_outputs=None
            )
            width = self.images.out_features
        if layout is not None:
            self.texts = TextTower(model, config, layout)
            width = width or _width(self.texts)
        self.out_features = width if pixels is None or layout is None else 3 * width
        towers = {"images.encoder": self.images, "texts": self.texts}
        self.backbones = tuple(path for path, tower in towers.items() if tower is not None)
        self.head = head(self.out_features, num_outputs)

    def forward(self, features: Mapping[str, Tensor]) -> Output:
        found: list[Tensor] = []
        if self.images is not None:
            found.append(_scaled(self.images(features).features))
        if self.texts is not None:
            texts = _scaled(self.texts(features["ids"], features["mask"]))
            found.append(texts * features["has_text"].unsqueeze(1).to(texts.dtype))
        if len(found) == 2:
            found = [found[0] * found[1], *found]
        joined = torch.cat(found, dim=-1)
        return Output(joined, None if self.head is None else self.head(joined))


def class_weights(
    model: Any, config: "Config", layout: "Layout", classes: Sequence[Mapping[str, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Return weight [C, F] and bias [C] of a head over image features that says what the checkpoint itself would.

    Args:
        model: a whole CLIP or SigLIP model.
        classes: of each class, the "ids" and "mask" of the texts that describe it; their embeddings are averaged
            (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, 3.1.4).
    """
    tower = TextTower(model, config, layout).eval()
    with torch.no_grad():
        means = [tower(texts["ids"], texts["mask"]).mean(dim=0) for texts in classes]
        weight = functional.normalize(torch.stack(means), dim=-1) * model.logit_scale.exp()
        bias = getattr(model, "logit_bias", torch.zeros(1)).expand(len(classes)).clone()
        return weight / weight.shape[-1] ** 0.5, bias


def _scaled(embeddings: Tensor) -> Tensor:
    """Return embeddings with length sqrt(F), those of length 0 as they are."""
    return functional.normalize(embeddings, dim=-1) * embeddings.shape[-1] ** 0.5


def _width(tower: TextTower) -> int:
    ids = torch.zeros((1, 1), dtype=torch.long)
    with torch.no_grad():
        return tower(ids, torch.ones_like(ids)).shape[-1]


def _patches(images: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return [K, 3, S, S] as patches [K, N, side * side * 3], row by row, and the number of rows and columns [K, 2]."""
    count, across = len(images), images.shape[-1] // side
    parts = images.view(count, 3, across, side, across, side).permute(0, 2, 4, 3, 5, 1)
    shapes = torch.full((count, 2), across, dtype=torch.long, device=images.device)
    return parts.reshape(count, across * across, side * side * 3), shapes
