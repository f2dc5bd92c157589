"""Layers that several networks share."""

from collections.abc import Sequence
from typing import Any

import keras

# oneDNN's fast kernels for AVX-512 want a multiple of as many channels. In bfloat16, 24 took eight times as long as 32.
# Where there are no such kernels, the padding is a copy in vain.
LANES = 16


@keras.saving.register_keras_serializable(package="mien")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' BatchNormalization, trained with TensorFlow's fused kernel: the same numbers, about half the time on CPU.

    Keras 3 composes moments, subtraction and scaling from separate TensorFlow ops. Prediction, export, the other
    backends and whatever the kernel cannot do (inputs that are no pictures, channels first) use Keras' own code.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if training and self.trainable and mask is None and self.fits_kernel(inputs):
            return self.train_fused(inputs)
        return super().call(inputs, training=training, mask=mask)

    def fits_kernel(self, inputs: Any) -> bool:
        pictures = len(inputs.shape) == 4 and self.axis in (-1, 3)
        plain = self.scale and self.center and not (self.synchronized or self.renorm)
        return pictures and plain and keras.backend.backend() == "tensorflow"

    def train_fused(self, inputs: Any) -> Any:
        # The backend is called by name: Keras has no op for it.
        import tensorflow as tf

        channels = inputs.shape[-1]
        spare = -channels % LANES

        def widened(values: Any) -> Any:
            return tf.pad(values, [[0, 0]] * (len(values.shape) - 1) + [[0, spare]]) if spare else values

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=widened(inputs),
            scale=widened(self.gamma),
            offset=widened(self.beta),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        if spare:  # not by outputs[...]: its gradient takes as long as what is saved
            outputs = tf.slice(outputs, [0, 0, 0, 0], [-1, -1, -1, channels])
            mean, variance = mean[:channels], variance[:channels]
        rows = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
        # The kernel reports the unbiased variance; Keras keeps the biased one.
        self.move(self.moving_mean, mean)
        self.move(self.moving_variance, variance * (rows - 1) / rows)
        return outputs

    def move(self, statistic: Any, batch_value: Any) -> None:
        statistic.assign(statistic * self.momentum + batch_value * (1.0 - self.momentum))


@keras.saving.register_keras_serializable(package="mien")
class PositionEmbedding(keras.layers.Layer):
    """Adds to each token, (n, tokens, width), a vector learnt for its place."""

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.places = self.add_weight(
            shape=tuple(input_shape[1:]), initializer=keras.initializers.TruncatedNormal(stddev=0.2), name="places"
        )

    def call(self, tokens: Any) -> Any:
        return tokens + self.places


def standardise(image: Any) -> Any:
    """Each picture, 0..255, brought to mean 0 and deviation 1: light and contrast of a photo do not matter."""
    x = keras.layers.Rescaling(1 / 255)(image)
    return keras.layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False, name="standardise")(x)


def convolution(
    x: Any, filters: int, *, kernel: int = 3, strides: int = 1, penalty: float = 0.0, momentum: float = 0.99
) -> Any:
    """Convolution, batch normalisation, ReLU.

    kernel: pixels a side. penalty: what each squared kernel weight adds to the loss. momentum: how much of its running
    mean and variance batch normalisation keeps at each step; with less than Keras' 0.99 they are up to date after an
    epoch of a small data set.
    """
    regularizer = keras.regularizers.L2(penalty) if penalty else None
    x = keras.layers.Conv2D(
        filters, kernel, strides=strides, padding="same", use_bias=False, kernel_regularizer=regularizer
    )(x)
    x = BatchNormalization(momentum=momentum)(x)
    return keras.layers.ReLU()(x)


def classify(x: Any, *, classes: int, dropout: float) -> Any:
    """The mean over all places, some of it dropped in training, and a probability for each class."""
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(dropout)(x)
    return keras.layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(x)
