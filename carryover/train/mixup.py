"""Owns the mixing of images in training (`data.mixup`): which rows are paired, with which shares, and their targets.

    timm's Mixup --one draw a micro-batch--> share of each row's own pixels [B, 1, S, S] --> images of every branch
                                        its mean [B] --> targets [B, C]

The draw is a function of (seed, step, place of the micro-batch), so a resumed run mixes as the uninterrupted one did.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from carryover.data.loader import Batch
from carryover.data.mixup import MixupConfig
from carryover.data.order import mix
from carryover.models.pixels import seeded
from carryover.train.engine import Given

_PIXELS, _COUNT = "/pixels", "/count"
# Sets its random numbers apart from dropout's, which count by (seed, step, place) too.
_STREAM = 0x6D69787570


class Mixing:
    """Mixes a micro-batch's images and labels: row i with row B - 1 - i.

    Rows are mixed only where both have as many images in each branch: an image is never mixed with a gap.

    Args:
        classes: C.
    """

    def __init__(self, config: MixupConfig, *, classes: int, seed: int) -> None:
        self._config = config
        self._classes = classes
        self._seed = seed

    def __call__(self, batch: Batch, step: int) -> Given:
        """Return the features with mixed images (float32, 0 to 255), and targets [b, C] that each sum to 1."""
        from timm.data.mixup import mixup_target

        features, share = dict(batch.features), torch.ones(len(batch.rows), 1, device=batch.targets.device)
        if batch.micro.epoch < self._config.turn_off_epoch:
            own, share = self._draw(batch, step)
            for name, pixels in features.items():
                if name.endswith(_PIXELS):
                    features[name] = _mixed(pixels, own)
        # A share for each row is what timm itself gives it, whatever its annotation says.
        shares: Any = share
        return Given(features, mixup_target(batch.targets, self._classes, shares, self._config.label_smoothing))

    def _draw(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Return the share of its own pixels in each row's image [B, 1, S, S], and in its target [B, 1]."""
        images = [pixels for name, pixels in batch.features.items() if name.endswith(_PIXELS)]
        side = max(pixels.shape[-1] for pixels in images)
        rows, half = len(batch.rows), len(batch.rows) // 2
        # A row in the middle is its own pair: whatever its shares, it stays what it is.
        own = torch.ones(rows, 1, side, side, device=images[0].device)
        share = torch.ones(rows, 1, device=own.device)
        if half:
            outer = torch.tensor([*range(half), *range(rows - half, rows)], device=own.device)
            own[outer], share[outer] = self._shares(
                own[outer], key=int(mix(self._seed, _STREAM, step, batch.micro.place))
            )
        fit = _alike(batch.features).unsqueeze(1)
        return torch.where(fit[:, :, None, None], own, 1.0), torch.where(fit, share, 1.0)

    def _shares(self, like: Tensor, *, key: int) -> tuple[Tensor, Tensor]:
        """Let timm mix images of ones with images of zeros: what comes out says whose each pixel is."""
        from timm.data.mixup import Mixup

        config = self._config
        first = torch.arange(len(like), device=like.device) < len(like) // 2
        timms = Mixup(
            mixup_alpha=config.mixup_alpha,
            cutmix_alpha=config.cutmix_alpha,
            cutmix_minmax=None if config.cutmix_minmax is None else list(config.cutmix_minmax),
            prob=config.prob,
            switch_prob=config.switch_prob,
            mode=config.mode,
            label_smoothing=0.0,
            num_classes=2,
        )
        with seeded(key):
            ones, halves = timms(first.view(-1, 1, 1, 1).to(like.dtype).expand_as(like).clone(), first.long())
        own = torch.where(first.view(-1, 1, 1, 1), ones, 1 - ones)
        return own, halves.gather(1, first.long().unsqueeze(1))


def _alike(features: Mapping[str, Tensor]) -> Tensor:
    """Tell of each row whether it and its pair have the same number of images, branch by branch, and any at all."""
    counts = torch.stack([value for name, value in features.items() if name.endswith(_COUNT)])
    return (counts == counts.flip(1)).all(dim=0) & (counts > 0).any(dim=0)


def _mixed(pixels: Tensor, own: Tensor) -> Tensor:
    """Mix [B, M, 3, S, S] by shares of another size perhaps."""
    sized = torch.nn.functional.interpolate(own, size=pixels.shape[-2:], mode="nearest").unsqueeze(1)
    whole = pixels.to(own.dtype)
    return sized * whole + (1 - sized) * whole.flip(0)
