"""Faces in, the same faces worse off out: blurred, noisy, turned, dark, pale, compressed, coarse or covered.

Nine corruptions in five strengths, after Hendrycks & Dietterich 2019: noise is theirs for 64 pixels (Tiny-ImageNet-C),
contrast theirs for 32 (CIFAR-10-C). The others were set by eye on FER2013: 1 is mild, and at 5 a person can still guess.
"""

from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from PIL.Image import Resampling
from scipy.ndimage import gaussian_filter, rotate

from mien.emotions import SIZE, Images
from mien.errors import RecipeError

STRENGTHS = MappingProxyType(
    {
        "blur": (0.6, 0.9, 1.2, 1.6, 2.0),  # standard deviation, pixels
        "noise": (10, 20, 31, 38, 46),  # standard deviation, grey levels of 255
        "rotation": (6, 12, 18, 24, 32),  # degrees, either way
        "low light": (1, 2, 3, 4, 5),  # stops: each halves the light
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # share of contrast kept
        "jpeg": (50, 35, 22, 15, 10),  # quality of 100
        "low resolution": (32, 25, 20, 16, 12),  # pixels on a side, then enlarged again
        "hidden eyes": (4, 7, 10, 13, 16),  # height of the cover, pixels
        "hidden mouth": (4, 7, 10, 13, 16),  # height of the cover, pixels
    }
)
GAMMA = 2.2  # grey levels are about the 2.2th root of light
EYES_ROW, EYES_WIDTH = 17, 36  # pixels; where the mean FER2013 training face has them, centred from left to right
MOUTH_ROW, MOUTH_WIDTH = 39, 24

Corruption = Callable[[Images, float, np.random.Generator], Images]  # amounts are those of STRENGTHS
Grey = UInt8[np.ndarray, "n height width 1"]


def corrupt(images: Images, name: str, *, strength: int, seed: int = 0) -> Images:
    """The images under one corruption of CORRUPTIONS, at a strength of 1..5: new uint8 (n, 48, 48, 1).

    The same seed gives the same images, and the first of them do not depend on how many follow. Raises RecipeError for
    a corruption or a strength that does not exist.
    """
    if name not in CORRUPTIONS:
        raise RecipeError(f"corruption is {name!r}; expected one of: {', '.join(CORRUPTIONS)}")
    amounts = STRENGTHS[name]
    if strength not in range(1, len(amounts) + 1):
        raise RecipeError(f"strength is {strength}; expected a whole number 1..{len(amounts)}")
    return CORRUPTIONS[name](images, float(amounts[strength - 1]), np.random.default_rng(seed))


def blur(images: Images, deviation: float) -> Images:
    return to_grey(gaussian_filter(images, deviation, axes=(1, 2), mode="nearest", output=np.float32))


def add_noise(images: Images, deviation: float, rng: np.random.Generator) -> Images:
    return to_grey(images + np.float32(deviation) * rng.standard_normal(images.shape, np.float32))


def turn(images: Images, degrees: float, rng: np.random.Generator) -> Images:
    """Each image to one side or the other; what comes in at the corners repeats the edge."""
    turned, left = np.empty_like(images), rng.random(len(images)) < 0.5
    for side, angle in ((left, degrees), (~left, -degrees)):
        turned[side] = rotate(images[side], angle, axes=(2, 1), reshape=False, order=1, mode="nearest")
    return turned


def darken(images: Images, stops: float) -> Images:
    return to_grey(images * np.float32(2 ** (-stops / GAMMA)))


def fade(images: Images, share: float) -> Images:
    """Toward each image's mean."""
    mean = images.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    return to_grey(mean + np.float32(share) * (images - mean))


def compress(images: Images, quality: float) -> Images:
    return each(images, lambda picture: reopen(picture, quality=int(quality)))


def coarsen(images: Images, side: float) -> Images:
    """Averaged down to `side` × `side` pixels, and smoothly enlarged as a face from a small crop would be."""
    size = (int(side), int(side))
    return each(images, lambda picture: picture.resize(size, Resampling.BOX).resize((SIZE, SIZE), Resampling.BILINEAR))


def cover(images: Images, height: float, *, row: int, width: int) -> Images:
    """By a box of the image's mean grey."""
    covered = images.copy()
    box = np.s_[:, row - int(height) // 2 : row + (int(height) + 1) // 2, (SIZE - width) // 2 : (SIZE + width) // 2]
    covered[box] = to_grey(images.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32))
    return covered


def reopen(picture: Image.Image, *, quality: int) -> Image.Image:
    """What a JPEG file gives back."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


def each(images: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    """Every image changed by Pillow."""
    changed = np.empty_like(images)
    for index, image in enumerate(images[..., 0]):
        changed[index, ..., 0] = change(Image.fromarray(image))
    return changed


def to_grey(values: Float32[np.ndarray, "n height width 1"]) -> Grey:
    """Rounded to whole levels 0..255."""
    grey: Grey = values.round().clip(0, 255).astype(np.uint8)
    return grey


def without_chance(change: Callable[[Images, float], Images]) -> Corruption:
    """The same change, handed a random generator that it has no use for."""
    return lambda images, amount, _: change(images, amount)


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "blur": without_chance(blur),
        "noise": add_noise,
        "rotation": turn,
        "low light": without_chance(darken),
        "contrast": without_chance(fade),
        "jpeg": without_chance(compress),
        "low resolution": without_chance(coarsen),
        "hidden eyes": without_chance(partial(cover, row=EYES_ROW, width=EYES_WIDTH)),
        "hidden mouth": without_chance(partial(cover, row=MOUTH_ROW, width=MOUTH_WIDTH)),
    }
)
