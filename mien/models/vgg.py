"""A deep VGG-style network: four blocks of two convolutions, held back by L2, dropped feature maps and noise."""

from typing import Any

import keras
from keras import layers

from mien.emotions import SIZE
from mien.models.layers import convolution

PENALTY = 1e-4  # what each squared weight of a kernel adds to the loss
NOISE = 0.03  # standard deviation, in pixels scaled to 0..1: about 8 grey levels
WIDTHS = (64, 128, 256, 512)  # filters of each block's convolutions


def build(*, classes: int = 7) -> keras.Model:
    """4.9 M parameters, 469 M multiply-adds a face: five baselines' cost."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    # Noise, dropped maps and dropout may stay in the saved network: unlike Keras' Random* layers, which run unless told
    # not to, their `training` is False unless told otherwise, so a plain network(x), export included, passes by them.
    x = layers.Rescaling(1 / 255)(image)
    x = layers.GaussianNoise(NOISE)(x)
    for filters in WIDTHS:
        x = convolution(x, filters, penalty=PENALTY)
        x = convolution(x, filters, penalty=PENALTY)
        x = layers.MaxPooling2D()(x)
        x = layers.SpatialDropout2D(0.1)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = dense(x, 256, dropout=0.4)
    x = dense(x, 128, dropout=0.3)
    probabilities = layers.Dense(
        classes,
        activation="softmax",
        kernel_regularizer=keras.regularizers.L2(PENALTY),
        dtype="float32",
        name="probabilities",
    )(x)
    return keras.Model(image, probabilities, name="vgg")


def dense(x: Any, units: int, *, dropout: float) -> Any:
    x = layers.Dense(units, activation="relu", kernel_regularizer=keras.regularizers.L2(PENALTY))(x)
    return layers.Dropout(dropout)(x)
