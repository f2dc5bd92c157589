"""The fused BatchNormalization gives Keras' own numbers; shared layers do what they say and survive a file."""

import keras
import numpy as np
import pytest

from mien.models import layers

SHAPES = {
    "pictures": (8, 6, 5, 4),
    "of a lane": (4, 3, 2, layers.LANES),
    "rows": (32, 4),
    "sequences": (8, 10, 4),
    "volumes": (4, 3, 3, 3, 4),
}
# bfloat16 keeps 8 bits: one rounding step of numbers up to 4 is 2⁻⁶. Keras' own layer rounds at other places.
TOLERANCE = {"float32": 2e-5, "mixed_bfloat16": 2**-5}


def draw(shape, step=0):
    """Numbers of a different mean and spread in each channel, as they reach a layer in a network."""
    numbers = np.random.default_rng(step).normal(size=shape) * np.arange(1, shape[-1] + 1) + np.arange(shape[-1])
    return numbers.astype("float32")


def pair(shape, *, dtype="float32", axis=-1):
    """Keras' layer and ours, with equal weights that are not the initial ones."""
    both = tuple(
        kind(axis=axis, momentum=0.9, dtype=dtype)
        for kind in (keras.layers.BatchNormalization, layers.BatchNormalization)
    )
    channels = shape[axis]
    weights = [np.linspace(*ends, channels) for ends in ((0.5, 2), (-1, 1), (-2, 2), (0.5, 3))]
    for layer in both:
        layer.build((None, *shape[1:]))
        layer.set_weights(weights)
    return both


def step(layer, inputs):
    """Outputs in training, and the gradients of a loss that weighs each of them differently."""
    import tensorflow as tf

    weights = np.random.default_rng(100).normal(size=inputs.shape)
    x = tf.Variable(inputs)
    with tf.GradientTape() as tape:
        outputs = tf.cast(layer(x, training=True), "float32")
        loss = tf.reduce_sum(outputs * tf.constant(weights, "float32"))
    gradients = tape.gradient(loss, [x, *layer.trainable_variables])
    return outputs.numpy(), [np.array(gradient) for gradient in gradients]


needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the kernel is TensorFlow's")


@needs_tensorflow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_normalization_is_that_of_keras(shape, dtype):
    theirs, ours = pair(shape, dtype=dtype)
    tolerance = TOLERANCE[dtype]
    for number in range(4):
        inputs = draw(shape, step=number)
        (their_outputs, their_gradients), (our_outputs, our_gradients) = step(theirs, inputs), step(ours, inputs)
        np.testing.assert_allclose(our_outputs, their_outputs, atol=2 * tolerance, rtol=tolerance)
        for our_gradient, their_gradient in zip(our_gradients, their_gradients, strict=True):
            scale = np.abs(their_gradient).max()
            np.testing.assert_allclose(our_gradient, their_gradient, atol=2 * tolerance * scale)
        for our_weight, their_weight in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(our_weight, their_weight, rtol=tolerance, atol=tolerance)
    assert np.abs(theirs.moving_mean - np.linspace(-2, 2, shape[-1])).max() > 0.1  # the statistics did move
    inputs = draw(shape, step=9)
    np.testing.assert_allclose(
        np.array(keras.ops.cast(ours(inputs), "float32")),
        np.array(keras.ops.cast(theirs(inputs), "float32")),
        atol=2 * tolerance,
        rtol=tolerance,
    )


@needs_tensorflow
def test_pictures_take_the_kernel_and_nothing_else_does(monkeypatch):
    fused = []
    monkeypatch.setattr(layers.BatchNormalization, "train_fused", lambda self, inputs: fused.append(1) or inputs)
    for shape in SHAPES.values():
        pair(shape)[1](draw(shape), training=True)
    ours = pair(SHAPES["pictures"])[1]
    ours(draw(SHAPES["pictures"]), training=False)
    ours(draw(SHAPES["pictures"]))
    ours.trainable = False
    ours(draw(SHAPES["pictures"]), training=True)
    for options in ({"center": False}, {"scale": False}, {"axis": 1}):
        layers.BatchNormalization(**options)(draw(SHAPES["pictures"]), training=True)
    assert len(fused) == 2  # the two shapes of pictures


@needs_tensorflow
def test_channels_first_pictures_are_normalised_by_channel():
    theirs, ours = pair((8, 4, 6, 5), axis=1)
    inputs = draw((8, 4, 6, 5))
    np.testing.assert_allclose(ours(inputs, training=True), theirs(inputs, training=True), atol=1e-5)


def test_a_frozen_layer_keeps_its_statistics():
    ours = pair(SHAPES["pictures"])[1]
    before = [weight.copy() for weight in ours.get_weights()]
    ours.trainable = False
    ours(draw(SHAPES["pictures"]), training=True)
    for now, then in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_batch_normalization_survives_a_file(tmp_path, dtype):
    shape = SHAPES["pictures"]
    image = keras.Input(shape[1:])
    network = keras.Model(image, layers.BatchNormalization(momentum=0.9, epsilon=1e-2, dtype=dtype)(image))
    for number in range(3):
        network(draw(shape, step=number), training=True)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert type(loaded.layers[1]) is layers.BatchNormalization
    for training in (False, True, False):
        inputs = draw(shape, step=7)
        np.testing.assert_array_equal(
            *(np.array(keras.ops.cast(net(inputs, training=training), "float32")) for net in (loaded, network))
        )


def test_a_token_gets_the_vector_of_its_place(tmp_path):
    tokens = keras.Input((5, 3))
    network = keras.Model(tokens, layers.PositionEmbedding()(tokens))
    places = np.arange(15, dtype="float32").reshape(5, 3)
    network.set_weights([places])
    np.testing.assert_array_equal(network(np.ones((2, 5, 3))), np.stack([places + 1, places + 1]))
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(np.zeros((1, 5, 3))), places[np.newaxis])


def test_convolution_is_penalised_by_its_squared_weights():
    image = keras.Input((8, 8, 1))
    network = keras.Model(image, layers.convolution(image, 4, penalty=0.5))
    kernel = network.weights[0]
    assert float(network.losses[0]) == pytest.approx(0.5 * float(np.sum(np.square(kernel))), rel=1e-5)
    assert not keras.Model(image, layers.convolution(image, 4)).losses
