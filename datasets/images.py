"""Labelled images as a collection of minibatches: shuffled, cropped and flipped at random, on whatever device they lie.

What a batch holds depends on (epoch, seed, size) alone, so that training that was interrupted meets the same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from physid.errors import InputError

PADDING = 4  # pixels on every side, from which the crop is drawn; Zhuang et al. (2020), section 4.2
MEAN = (0.4914, 0.4822, 0.4465)  # red, green, blue, on [0, 1]
STD = (0.2023, 0.1994, 0.2010)


class Batch(NamedTuple):
    """Images [B, 3, H, W], normalised, in memory with the channels last, and their classes [B]."""

    images: Tensor
    labels: Tensor


class Subset(NamedTuple):
    """Images as bytes [N, H, W, 3] and their classes [N]."""

    images: Tensor
    labels: Tensor

    def first(self, count: int | None) -> Subset:
        """The first `count` of them, or all. Errors: InputError when there are not so many."""
        if count is not None and count > len(self.labels):
            raise InputError(f"{count} images are asked for and {len(self.labels)} are there. Ask for fewer.")
        return self if count is None else Subset(self.images[:count], self.labels[:count])


@dataclass
class Images:
    """A collection of labelled images.

    `batches(epoch, seed, size)` gives the training images in an order of the epoch, each shifted by up to 4 pixels
    (black outside) and flipped half of the time if `augment`; `test(size)` the test images as they are. Both normalise
    each colour to (x - mean) / std. The last batch holds what is left.
    """

    name: str
    train: Subset
    held_out: Subset
    classes: tuple[str, ...]
    augment: bool = True
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    source: str = ""
    data_hash: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse images and classes that do not fit together."""
        for images, labels in (self.train, self.held_out):
            if images.ndim != 4 or images.dtype != torch.uint8 or len(images) != len(labels) or not len(labels):
                raise InputError(
                    f"{self.name}: images of shape {tuple(images.shape)} and type {images.dtype} with {len(labels)} "
                    "classes: expected bytes [N, H, W, 3] and N classes."
                )
            if not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
                raise InputError(f"{self.name}: a class is outside of 0..{len(self.classes) - 1}. Correct the labels.")

    @property
    def count(self) -> int:
        """The number of training images."""
        return len(self.train.labels)

    @property
    def test_count(self) -> int:
        """The number of test images."""
        return len(self.held_out.labels)

    def steps(self, size: int) -> int:
        """The number of batches of an epoch."""
        return -(-self.count // size)

    def to(self, device: torch.device | str) -> Images:
        """The same images on that device."""
        train, held_out = (Subset(*(part.to(device) for part in half)) for half in (self.train, self.held_out))
        return replace(self, train=train, held_out=held_out)

    def describe(self) -> dict[str, Any]:
        """Facts of the images, as plain data."""
        return {
            "name": self.name,
            "images": self.count,
            "test_images": self.test_count,
            "shape": [3, *self.train.images.shape[1:3]],
            "classes": len(self.classes),
            "augment": self.augment,
            "source": self.source,
            "data_hash": self.data_hash,
        }

    def batches(self, epoch: int, seed: int, size: int) -> Iterator[Batch]:
        """The training images of one epoch in batches of `size`; a pure function of its arguments."""
        images, labels = self.train
        draws = _Draws.of(self.count, epoch, seed).to(images.device)
        for start in range(0, self.count, size):
            part = slice(start, start + size)
            chosen = images.index_select(0, draws.order[part])
            if self.augment:
                chosen = shifted(chosen, draws.shift[part], draws.flip[part])
            yield Batch(self.normalised(chosen), labels.index_select(0, draws.order[part]))

    def test(self, size: int) -> Iterator[Batch]:
        """The test images, in their order, in batches of `size`."""
        images, labels = self.held_out
        for start in range(0, self.test_count, size):
            yield Batch(self.normalised(images[start : start + size]), labels[start : start + size])

    def normalised(self, images: Tensor) -> Tensor:
        """Bytes [B, H, W, 3] as (x / 255 - mean) / std [B, 3, H, W]."""
        scale = torch.tensor([1 / (255 * std) for std in self.std], device=images.device)
        shift = torch.tensor([-mean / std for mean, std in zip(self.mean, self.std, strict=True)], device=images.device)
        return torch.addcmul(shift, images.float(), scale).permute(0, 3, 1, 2)


class _Draws(NamedTuple):
    """The random numbers of one epoch: order [N], shift [N, 2] in 0..8, flip [N]; the same on every device."""

    order: Tensor
    shift: Tensor
    flip: Tensor

    @staticmethod
    def of(count: int, epoch: int, seed: int) -> _Draws:
        generator = torch.Generator().manual_seed((seed << 20) + epoch)
        order = torch.randperm(count, generator=generator)
        shift = torch.randint(2 * PADDING + 1, (count, 2), generator=generator)
        flip = torch.randint(2, (count,), generator=generator) == 1
        return _Draws(order, shift, flip)

    def to(self, device: torch.device) -> _Draws:
        return _Draws(*(part.to(device) for part in self))


def shifted(images: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """The images [B, H, W, 3] mirrored where `flip` [B], padded by 4 black pixels and cropped from `shift` [B, 2] on.

    `shift` is (row, column) in 0..8. One gather for the whole batch: each row of a crop is a window of a padded row.
    """
    batch, height, width, channels = images.shape
    padded = images.new_zeros(batch, height + 2 * PADDING, width + 2 * PADDING, channels)
    padded[:, PADDING:-PADDING, PADDING:-PADDING] = torch.where(flip[:, None, None, None], images.flip(2), images)
    windows = padded.flatten(2).unfold(2, width * channels, channels)
    lane = torch.arange(batch, device=images.device)[:, None]
    rows = shift[:, :1] + torch.arange(height, device=images.device)
    return windows[lane, rows, shift[:, 1:]].view(images.shape)
