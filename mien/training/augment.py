"""Faces in, slightly changed faces out: random layers that run in training alone and are never saved."""

import math
from dataclasses import dataclass
from typing import Any, no_type_check

import keras
from keras import layers

from mien.emotions import SIZE


@dataclass(frozen=True)
class Strength:
    """How far an image may be changed at random. Units as in Recipe; a strength of 0 leaves its layer out."""

    flip: bool
    rotation: float
    zoom: float
    shift: float

    def times(self, factor: float) -> "Strength":
        return Strength(self.flip, self.rotation * factor, self.zoom * factor, self.shift * factor)


def build_augmenter(
    strength: Strength,
    *,
    stronger: Strength | None = None,
    one_warp: bool = False,
    erasing: float = 0.0,
    mixup: bool = False,
    seed: int,
) -> keras.Model:
    """Mirror, turn, zoom and move each image at random, paint over part of some, and mix pairs.

    Inputs, by name: image (n, 48, 48, 1), 0..255. With `stronger`, stronger (n, 1) of 0 and 1: which images are changed
    as far as that. With `mixup`, share (n, 1) in 0..1: how much of each image stays; the rest is the image as far from
    the batch's end as this one is from its start.
    """
    warp = change_at_once if one_warp else change
    inputs = {"image": keras.Input((SIZE, SIZE, 1), name="image")}
    x = warp(inputs["image"], strength, seed=seed)
    if stronger is not None:
        inputs["stronger"] = keras.Input((1,), name="stronger")
        chosen = layers.Reshape((1, 1, 1))(inputs["stronger"])
        x = keras.ops.where(chosen > 0.5, warp(inputs["image"], stronger, seed=seed + 4), x)
    if erasing:
        x = layers.RandomErasing((erasing, erasing), fill_value=128.0, seed=seed + 8)(x)
    if mixup:
        inputs["share"] = keras.Input((1,), name="share")
        share = layers.Reshape((1, 1, 1))(inputs["share"])
        x = share * x + (1 - share) * keras.ops.flip(x, axis=0)
    return keras.Model(inputs if len(inputs) > 1 else inputs["image"], x, name="augmenter")


def change(x: Any, strength: Strength, *, seed: int) -> Any:
    if strength.flip:
        x = layers.RandomFlip("horizontal", seed=seed)(x)
    if strength.rotation:
        x = layers.RandomRotation(strength.rotation, seed=seed + 1)(x)
    if strength.zoom:
        x = layers.RandomZoom(strength.zoom, seed=seed + 2)(x)
    if strength.shift:
        x = layers.RandomTranslation(strength.shift, strength.shift, seed=seed + 3)(x)
    return x


def change_at_once(x: Any, strength: Strength, *, seed: int) -> Any:
    if strength.flip:
        x = layers.RandomFlip("horizontal", seed=seed)(x)
    return RandomWarp(strength, seed=seed + 1)(x)


class RandomWarp(layers.Layer):
    """Turns, zooms and moves each image (n, 48, 48, 1) at random, in training alone, in one bilinear interpolation."""

    strength: Strength
    chance: keras.random.SeedGenerator

    @no_type_check  # Keras reads the signature of __init__, which a check at run time would hide
    def __init__(self, strength: Strength, *, seed: int):
        super().__init__()
        self.strength = strength
        self.chance = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool | None = None) -> Any:
        if not training:
            return images
        transforms = self.draw_transforms(keras.ops.shape(images)[0])
        return keras.ops.image.affine_transform(images, transforms, fill_mode="reflect")

    def draw_transforms(self, number: Any) -> Any:
        """Rows (number, 8) for keras.ops.image.affine_transform: from a place in the output to its place in the input."""
        far = SIZE * self.strength.shift
        turn, size, across, down = (
            keras.random.uniform((number,), -largest, largest, seed=self.chance)
            for largest in (2 * math.pi * self.strength.rotation, self.strength.zoom, far, far)
        )
        cos, sin = (1 + size) * keras.ops.cos(turn), (1 + size) * keras.ops.sin(turn)
        centre = (SIZE - 1) / 2
        x, y = centre * (1 - cos + sin) + across, centre * (1 - cos - sin) + down
        zero = keras.ops.zeros_like(turn)
        return keras.ops.stack([cos, -sin, x, sin, cos, y, zero, zero], axis=1)
