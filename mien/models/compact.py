"""A network that learns in minutes on two CPU cores: the stem halves the picture before any costly layer."""

import keras
from keras import layers

from mien.emotions import SIZE
from mien.models.layers import convolution


def build(*, classes: int = 7) -> keras.Model:
    """0.1 M parameters, 8 M multiply-adds a face: a tenth of the baseline's."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = convolution(x, 16, strides=2)
    for filters in (32, 64, 96):
        x = convolution(x, filters)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.1)(x)
    probabilities = layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(image, probabilities, name="compact")
