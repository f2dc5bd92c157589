"""The starting point: three blocks of two convolutions, 32-64-128 filters, and a dense layer of 128."""

import keras
from keras import layers

from mien.emotions import SIZE
from mien.models.layers import convolution


def build(*, classes: int = 7) -> keras.Model:
    """0.3 M parameters, 85 M multiply-adds a face."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = layers.Rescaling(1 / 255)(image)
    for filters in (32, 64, 128):
        x = convolution(x, filters)
        x = convolution(x, filters)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(0.2)(x)
    probabilities = layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(image, probabilities, name="baseline")
