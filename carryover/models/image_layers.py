"""Owns the torch modules of image families: the scaling of pixels, and the encoder that reads several images a row."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from carryover.models.family import Output
from carryover.models.layers import freeze_unreached, head


class Scaling(nn.Module):
    """Maps pixels from 0 to 255 (bytes, or real numbers where images were mixed) to what an encoder was trained on."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # They stand in the preprocessor's file; a weight that never changes is no weight.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1) * 255, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.to(self.mean.dtype) - self.mean) / self.std


class ImageEncoder(nn.Module):
    """An encoder of images [K, 3, S, S] -> [K, F], a row's mean over its images, and a head.

    Reads "pixels" [B, M, 3, S, S] and "count" [B]. Black images that only fill the array are not computed at all, so
    they are not in the statistics of a BatchNorm either. A row without images has features 0, or a learned image.

    Args:
        average: "all_logits" averages what the encoder says of each image; "all_images" averages the images before it.
        learned: put a learned image where a row has none.
    """

    backbones = ("encoder",)

    def __init__(
        self, encoder: nn.Module, scaling: Scaling, size: int, *, average: str, learned: bool, num_outputs: int | None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.scaling = scaling
        self.average = average
        self.learned_image = nn.Parameter(torch.zeros(3, size, size)) if learned else None
        features = self._trial(size)
        self.out_features = features.shape[-1]
        freeze_unreached(self.encoder, features)
        self.head = head(self.out_features, num_outputs)

    def forward(self, features: Mapping[str, Tensor]) -> Output:
        pixels, count = features["pixels"], features["count"]
        present = torch.arange(pixels.shape[1], device=count.device) < count.unsqueeze(1)
        pooled = self._of_rows(pixels, present)
        return Output(pooled, None if self.head is None else self.head(pooled))

    def _of_rows(self, pixels: Tensor, present: Tensor) -> Tensor:
        rows = len(pixels)
        owners = present.nonzero()[:, 0]
        images = self.scaling(pixels[present])
        if self.average == "all_images":
            images, owners = _mean_by(images, owners, rows)
        if self.learned_image is not None:
            bare = (~present.any(dim=1)).nonzero()[:, 0]
            learned = self.learned_image.to(images.dtype).expand(len(bare), *images.shape[1:])
            images, owners = torch.cat([images, learned]), torch.cat([owners, bare])
        if not len(images):
            # Each parameter needs a gradient at each step (0 here), so something has to go through the encoder.
            nothing = self.scaling(pixels[:1, 0])
            return self._encode(nothing).sum() * 0 + self._zeros(rows, nothing)
        encoded = self._encode(images)
        means, found = _mean_by(encoded, owners, rows)
        pooled = self._zeros(rows, encoded).to(encoded.dtype).index_copy(0, found, means)
        # (A batch in which every row has an image does not reach the learned one.)
        return pooled if self.learned_image is None else pooled + self.learned_image.sum().to(pooled.dtype) * 0

    def _encode(self, images: Tensor) -> Tensor:
        if self.training and len(images) == 1:
            # A BatchNorm over a single number is an error; two of the same image have the statistics of one.
            return self.encoder(torch.cat([images, images]))[:1]
        return self.encoder(images)

    def _zeros(self, rows: int, like: Tensor) -> Tensor:
        return like.new_zeros((rows, self.out_features))

    def _trial(self, size: int) -> Tensor:
        """Run one black image through the encoder: what it reaches and how wide it is, nothing more."""
        training = self.encoder.training
        self.encoder.eval()
        with torch.enable_grad():
            features = self.encoder(torch.zeros(1, 3, size, size))
        self.encoder.train(training)
        return features


def _mean_by(values: Tensor, owners: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return the mean of each owner's values, and the owners that have any, in order."""
    counts = torch.bincount(owners, minlength=rows)
    found = counts.nonzero()[:, 0]
    if len(found) == len(owners):
        # One each, the usual case: only the order may differ.
        return values[torch.argsort(owners, stable=True)], found
    sums = values.new_zeros((rows, *values.shape[1:])).index_add(0, owners, values)
    shape = (-1, *[1] * (values.dim() - 1))
    return sums[found] / counts[found].view(shape).to(values.dtype), found
