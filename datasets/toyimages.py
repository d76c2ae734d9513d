"""Small synthetic images for tests and trials: coloured stripes, whose direction is the class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from physid.catalog import Entry, Option, number, one_of, whole
from physid.datasets.images import Images, Subset
from physid.training import Collection

OPTIONS = {
    "images": Option("How many training images.", whole(1), 512),
    "test_images": Option("How many test images.", whole(1), 256),
    "classes": Option("How many classes.", whole(2, 10_000), 10),
    "size": Option("Height and width in pixels.", whole(8, 1024), 16),
    "noise": Option("Standard deviation of the pixels' noise, of a range of 1.", number(0.0), 0.15),
    "augment": Option("yes or no: random crops and flips.", one_of("yes", "no"), "no"),
    "data_seed": Option("Seed of the images.", whole(0, 2**32 - 1), 0),
}


def load(
    *, images: int, test_images: int, classes: int, size: int, noise: float, augment: str, data_seed: int
) -> Images:
    """Stripes cos(2 pi f (x cos a + y sin a) + phase) of random frequency, phase and colour; a = pi class / classes.

    Made up: the errors of networks on them say nothing about photographs. A flip turns class k into another one, so
    augmentation is off unless it is asked for.
    """
    generator = torch.Generator().manual_seed(data_seed)
    labels = torch.randint(classes, (images + test_images,), generator=generator)
    pixels = _stripes(labels * (math.pi / classes), size, noise, generator)
    return Images(
        name="images-toy",
        train=Subset(pixels[:images], labels[:images]),
        held_out=Subset(pixels[images:], labels[images:]),
        classes=tuple(f"{180 * k / classes:.4g} degrees" for k in range(classes)),
        augment=augment == "yes",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        source="synthetic stripes",
        options={
            "images": images,
            "test_images": test_images,
            "classes": classes,
            "size": size,
            "noise": noise,
            "augment": augment,
            "data_seed": data_seed,
        },
    )


def _stripes(angle: Tensor, size: int, noise: float, generator: torch.Generator) -> Tensor:
    """Images [N, size, size, 3] of bytes for the angles [N]."""
    count = len(angle)
    frequency, phase = 1.5 + torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    colour = 0.2 + 0.3 * torch.rand(count, 1, 1, 3, generator=generator)
    place = torch.linspace(-0.5, 0.5, size)
    along = torch.cos(angle)[:, None, None] * place + torch.sin(angle)[:, None, None] * place[:, None]
    wave = torch.cos(2 * math.pi * (frequency[:, None, None] * along + phase[:, None, None]))
    value = 0.5 + colour * wave[..., None] + noise * torch.randn(count, size, size, 3, generator=generator)
    return (255 * value.clamp(0, 1)).round().to(torch.uint8)


ENTRY: Entry[Collection] = Entry("images-toy", "Small synthetic stripes in 10 classes, for trials.", OPTIONS, load)
