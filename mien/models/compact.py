"""A network for phones and for minutes: most of its multiply-adds are spent where the picture is already small."""

from functools import partial
from typing import Any

import keras
from keras import layers

from mien.emotions import SIZE
from mien.models.layers import BatchNormalization, classify, convolution, standardise

block = partial(convolution, momentum=0.9)


def build(*, classes: int = 7) -> keras.Model:
    """0.3 M parameters, 10 M multiply-adds a face: an eighth of the baseline's."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = block(block(standardise(image), 16, strides=2), 24)
    x = block(layers.MaxPooling2D()(x), 48)
    x = block(layers.MaxPooling2D()(x), 96)
    x = layers.Add()([x, block(x, 96)])
    x = block(layers.MaxPooling2D()(x), 192)
    return keras.Model(image, classify(x, classes=classes, dropout=0.1), name="compact")


def build_deep(*, classes: int = 7) -> keras.Model:
    """0.4 M parameters, 10 M multiply-adds a face: the first layer sees every pixel, and bottlenecks go deeper."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = block(standardise(image), 16)
    for filters in (24, 48, 96):
        x = block(layers.MaxPooling2D()(x), filters)
    x = bottleneck(bottleneck(x, 48), 48)
    x = bottleneck(block(layers.MaxPooling2D()(x), 184), 96)
    return keras.Model(image, classify(x, classes=classes, dropout=0.1), name="compact_deep")


def bottleneck(x: Any, width: int) -> Any:
    """Down to `width` channels, a convolution 3×3, up again, and added to what came (He et al. 2016)."""
    y = layers.Conv2D(x.shape[-1], 1, use_bias=False)(block(block(x, width, kernel=1), width))
    return layers.ReLU()(layers.Add()([x, BatchNormalization(momentum=0.9)(y)]))
