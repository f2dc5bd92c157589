"""A compact convolutional transformer: convolutions make 144 tokens of a face, attention relates them.

Source: Hassani et al. (2021), "Escaping the Big Data Paradigm with Compact Transformers". Width and convolutions are
those of its small CCT-2 and CCT-4.
"""

from typing import Any

import keras
from keras import layers, ops

from mien.emotions import SIZE
from mien.models.layers import PositionEmbedding

WIDTH = 128  # numbers a token
BLOCKS = 4
HEADS = 4
DROPOUT = 0.1  # of attention and of the tokens inside a block
SKIPPED = 0.1  # share of images for which the last block's branches are left out; earlier blocks' less


def build(*, classes: int = 7) -> keras.Model:
    """0.6 M parameters, 141 M multiply-adds a face."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = make_tokens(x)
    x = PositionEmbedding()(x)
    for block in range(BLOCKS):
        x = encode(x, skipped=SKIPPED * block / (BLOCKS - 1))
    x = pool_sequence(layers.LayerNormalization(epsilon=1e-6)(x))
    probabilities = layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(image, probabilities, name="transformer")


def make_tokens(x: Any) -> Any:
    """Two convolutions, each halving the picture: (n, 48, 48, 1) to (n, 144, WIDTH)."""
    for filters in (WIDTH // 2, WIDTH):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    return layers.Reshape((-1, WIDTH))(x)


def encode(x: Any, *, skipped: float) -> Any:
    """A pre-normalised transformer block: attention, then a layer twice as wide, each added to what came in."""
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    y = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, dropout=DROPOUT)(y, y)
    x = layers.Add()([x, skip_at_random(y, share=skipped)])
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    y = layers.Dense(2 * WIDTH)(y)
    y = ops.gelu(y, approximate=True)  # the exact form needs an operation that the export to ONNX lacks
    y = layers.Dropout(DROPOUT)(y)
    y = layers.Dense(WIDTH)(y)
    return layers.Add()([x, skip_at_random(y, share=skipped)])


def skip_at_random(branch: Any, *, share: float) -> Any:
    """Stochastic depth, Huang et al. (2016): leave the branch out for `share` of the images, in training alone."""
    return layers.Dropout(share, noise_shape=(None, 1, 1))(branch)


def pool_sequence(tokens: Any) -> Any:
    """The tokens' mean, weighted by how much each has to say: (n, tokens, WIDTH) to (n, WIDTH)."""
    importance = layers.Softmax(axis=1)(layers.Dense(1)(tokens))
    return layers.Reshape((WIDTH,))(layers.Dot(axes=1)([importance, tokens]))
