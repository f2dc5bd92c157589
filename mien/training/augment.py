"""Faces in, slightly changed faces out: random layers that run in training alone and are never saved."""

import keras
from keras import layers

from mien.emotions import SIZE


def build_augmenter(*, flip: bool, rotation: float, zoom: float, shift: float, seed: int) -> keras.Model:
    """Mirror, turn, zoom and move each image at random. Units as in Recipe; a strength of 0 leaves its layer out."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = image
    if flip:
        x = layers.RandomFlip("horizontal", seed=seed)(x)
    if rotation:
        x = layers.RandomRotation(rotation, seed=seed + 1)(x)
    if zoom:
        x = layers.RandomZoom(zoom, seed=seed + 2)(x)
    if shift:
        x = layers.RandomTranslation(shift, shift, seed=seed + 3)(x)
    return keras.Model(image, x, name="augmenter")
