"""Faces in, slightly changed faces out: random layers that run in training alone and are never saved."""

from dataclasses import dataclass
from typing import Any

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


def build_augmenter(strength: Strength, *, stronger: Strength | None = None, seed: int) -> keras.Model:
    """Mirror, turn, zoom and move each image at random.

    With `stronger`, a second input (n, 1) of 0 and 1 says which images are changed as far as that.
    """
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = change(image, strength, seed=seed)
    if stronger is None:
        return keras.Model(image, x, name="augmenter")
    more = keras.Input((1,), name="stronger")
    chosen = layers.Reshape((1, 1, 1))(more)
    x = keras.ops.where(chosen > 0.5, change(image, stronger, seed=seed + 4), x)
    return keras.Model([image, more], x, name="augmenter")


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
