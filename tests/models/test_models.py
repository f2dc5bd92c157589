"""The contract of every network: pixels in, probabilities out, learns, survives a file, costs what it promises."""

import inspect
import re
import socket
import sys
from functools import cache

import keras
import numpy as np
import pytest
from keras import layers

from mien.errors import RecipeError
from mien.models import MODELS, PRETRAINED, build_network, pretrained
from mien.models.costs import count_multiply_adds
from mien.models.layers import BatchNormalization, PositionEmbedding, classify

every_model = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in PRETRAINED)) for name in MODELS]
)


@cache
def network_of(name):
    """Built once, for tests that change nothing in it."""
    keras.utils.set_random_seed(0)
    return build_network(name)


@pytest.fixture(scope="module")
def faces(drawn):
    """Eight drawn faces, as they come from a data set: uint8, 0..255."""
    return drawn.images[:320:40]


def predict(network, images):
    return np.array(network(images, training=False))


@every_model
def test_pixels_become_probabilities(name, faces):
    network = network_of(name)
    assert network.input_shape == (None, 48, 48, 1)
    assert [image.name for image in network.inputs] == ["image"]  # what an export calls its input
    probabilities = predict(network, faces)
    assert probabilities.shape == (8, 7)
    assert probabilities.dtype == np.float32
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(predict(network, faces.astype("float32")), probabilities)


@every_model
@pytest.mark.parametrize("classes", [2, 50])
def test_classes_may_be_few_or_many(name, classes, faces):
    probabilities = predict(build_network(name, classes=classes), faces[:2])
    assert probabilities.shape == (2, classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@every_model
def test_a_face_is_judged_by_itself(name, faces):
    together = predict(network_of(name), faces)
    alone = np.concatenate([predict(network_of(name), faces[row : row + 1]) for row in (0, 5)])
    np.testing.assert_allclose(alone, together[[0, 5]], atol=1e-5)


@every_model
def test_nothing_runs_by_chance_unless_it_trains(name, faces):
    """Called as an export calls it, without `training`, a network predicts, and keeps its batch statistics."""
    network = network_of(name)
    before = network.get_weights()
    np.testing.assert_array_equal(np.array(network(faces[:2])), predict(network, faces[:2]))
    for now, then in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert not [layer.name for layer in network._flatten_layers() if trains_by_default(layer)]


def trains_by_default(layer):
    training = inspect.signature(layer.call).parameters.get("training")
    return training is not None and training.default is True


def test_random_layers_would_be_noticed():
    assert trains_by_default(layers.RandomFlip())
    assert not trains_by_default(layers.Dropout(0.5))


@every_model
def test_steps_on_one_batch_lower_the_loss(name, faces):
    """In training mode: after so few steps the moving statistics that prediction uses are still far from the batch's."""
    network = build_network(name)
    # A graph would take longer to trace than these steps take without one.
    network.compile(keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", run_eagerly=True)
    labels = np.arange(4) % 7
    losses = [float(network.train_on_batch(faces[:4], labels)) for _ in range(4)]
    assert np.mean(losses[-2:]) < losses[0], losses


@every_model
def test_a_file_keeps_the_network(name, faces, tmp_path):
    network = network_of(name)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(predict(loaded, faces), predict(network, faces))
    assert loaded.count_params() == network.count_params()


@every_model
def test_low_precision_gives_float32_near_the_same(name, faces):
    """The path of a training in bfloat16 that is kept in float32: weights carry over in order."""
    low = build_network(name, precision="mixed_bfloat16")
    assert {"bfloat16"} <= {layer.compute_dtype for layer in low.layers}
    assert keras.config.dtype_policy().name == "float32"
    low.set_weights(network_of(name).get_weights())
    probabilities = predict(low, faces)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, predict(network_of(name), faces), atol=0.02)


@every_model
def test_cost_is_what_the_docstring_promises(name):
    promise = re.match(r"([\d.]+) M parameters, (\d+) M multiply-adds a face", MODELS[name].__doc__ or "")
    assert promise, f"{name}: the docstring of its build function begins with its cost"
    parameters, multiply_adds = map(float, promise.groups())
    network = network_of(name)
    assert network.count_params() / 1e6 == pytest.approx(parameters, abs=0.05)
    assert count_multiply_adds(network) / 1e6 == pytest.approx(multiply_adds, abs=1)


def build(shape, *stack):
    image = keras.Input(shape)
    x = image
    for layer in stack:
        x = layer(x)
    return keras.Model(image, x)


@pytest.mark.parametrize(
    ("shape", "stack", "by_hand"),
    [
        ((10, 12, 3), [lambda: layers.Conv2D(8, 3, padding="same")], 10 * 12 * 8 * 3 * 9),
        ((10, 12, 3), [lambda: layers.Conv2D(8, 3)], 8 * 10 * 8 * 3 * 9),
        ((10, 12, 4), [lambda: layers.Conv2D(8, 3, strides=2, padding="same", groups=2)], 5 * 6 * 8 * 2 * 9),
        ((10, 12, 3), [lambda: layers.DepthwiseConv2D(3, padding="same")], 10 * 12 * 3 * 9),
        ((10, 12, 3), [lambda: layers.SeparableConv2D(8, 3, padding="same")], 10 * 12 * (3 * 9 + 3 * 8)),
        ((20,), [lambda: layers.Dense(7)], 20 * 7),
        ((6, 20), [lambda: layers.Dense(7)], 6 * 20 * 7),
        ((6, 5, 4), [BatchNormalization, layers.ReLU, layers.MaxPooling2D, layers.Flatten], 0),
        ((6, 5, 1), [lambda: build((6, 5, 1), layers.Conv2D(2, 1)), layers.Flatten, lambda: layers.Dense(3)], 60 + 180),
    ],
)
def test_multiply_adds_by_hand(shape, stack, by_hand):
    assert count_multiply_adds(build(shape, *(make() for make in stack))) == by_hand


def test_multiply_adds_of_attention_by_hand():
    tokens = keras.Input((10, 16))
    network = keras.Model(tokens, layers.MultiHeadAttention(num_heads=3, key_dim=4)(tokens, tokens))
    projections = 3 * 10 * 16 * 12 + 10 * 12 * 16
    products = 3 * (10 * 10 * 4 + 10 * 10 * 4)
    assert count_multiply_adds(network) == projections + products


def test_the_vgg_is_the_one_described():
    network = network_of("vgg")
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds[1:3] == ["Rescaling", "GaussianNoise"]  # noise is in scaled pixels
    block = ["Conv2D", "BatchNormalization", "ReLU"] * 2 + ["MaxPooling2D", "SpatialDropout2D"]
    assert kinds[3:] == [*block * 4, "GlobalAveragePooling2D", *["Dense", "Dropout"] * 2, "Dense"]
    convolutions = [layer for layer in network.layers if isinstance(layer, layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert not any(layer.use_bias for layer in convolutions)
    dense = [layer for layer in network.layers if isinstance(layer, layers.Dense)]
    assert [layer.units for layer in dense] == [256, 128, 7]
    assert all(isinstance(layer.kernel_regularizer, keras.regularizers.L2) for layer in [*convolutions, *dense])
    assert len(network.losses) == 11


def test_the_transformer_sees_where_its_tokens_are(faces):
    """Without places, attention and pooling would be blind to order; with them, moved places move the answer."""
    network = build_network("transformer")
    (places,) = (layer.places for layer in network.layers if isinstance(layer, PositionEmbedding))
    assert tuple(places.shape) == (144, 128)
    before = predict(network, faces)
    places.assign(np.roll(np.array(places), 50, axis=0) * 20)
    assert np.abs(predict(network, faces) - before).max() > 1e-3


def test_stochastic_depth_leaves_out_whole_branches():
    dropped = layers.Dropout(0.5, noise_shape=(None, 1, 1))(np.ones((200, 6, 4), "float32"), training=True)
    by_image = np.array(dropped).reshape(200, -1)
    assert np.all(by_image.min(axis=1) == by_image.max(axis=1))
    assert 60 < np.sum(by_image[:, 0] == 0) < 140


def test_unknown_models_and_weights_are_refused():
    with pytest.raises(RecipeError, match="no model 'vgg19'; expected one of baseline, compact, compact_deep, vgg"):
        build_network("vgg19")
    with pytest.raises(RecipeError, match="vgg has no imagenet weights; .* resnet50, efficientnet"):
        build_network("vgg", weights="imagenet")
    with pytest.raises(RecipeError, match="baseline' has no pretrained backbone; expected resnet50 or efficientnet"):
        pretrained.freeze(network_of("baseline"))


def build_small_backbone(*, include_top, weights, input_shape):
    """As keras.applications' functions are called; prints as their download does."""
    print(f"Downloading {weights}")
    assert not include_top
    return build(input_shape, layers.Conv2D(4, 3, strides=8), layers.BatchNormalization(), layers.ReLU())


def build_small_network(weights="none"):
    image = keras.Input((48, 48, 1))
    x = pretrained.load_backbone(build_small_backbone, weights=weights)(pretrained.in_colour(image))
    return keras.Model(image, classify(x, classes=7, dropout=0.3))


def changed_by_training(network, faces):
    """The names of the weights that steps of training change."""
    network.compile("adam", loss="sparse_categorical_crossentropy", run_eagerly=True)
    before = network.get_weights()
    for _ in range(2):
        network.train_on_batch(faces, np.arange(8) % 7)
    pairs = zip(network.weights, before, strict=True)
    return {weight.path.rpartition("/")[2] for weight, then in pairs if not np.array_equal(weight, then)}


def test_a_frozen_backbone_stays_and_an_unfrozen_one_learns(faces):
    network = build_small_network()
    pretrained.freeze(network)
    backbone = pretrained.backbone_of(network)
    before = backbone.get_weights()
    changed_by_training(network, faces)
    for now, then in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    pretrained.unfreeze(network)
    assert changed_by_training(network, faces) == {"kernel", "bias"}  # no gamma, beta or moving statistics


def test_from_scratch_everything_learns(faces):
    expected = {"kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"}
    assert changed_by_training(build_small_network(), faces) == expected


def test_downloads_are_shown_beside_the_results(capsys):
    build_small_network(weights="imagenet")
    assert capsys.readouterr() == ("", "Downloading imagenet\n")


def test_a_download_that_fails_offers_training_from_scratch():
    def fail(**_):
        raise OSError("URL fetch failure on https://example.org: None -- Name or service not known")

    with pytest.raises(RecipeError, match="Name or service not known.*weights=none") as caught:
        pretrained.load_backbone(fail, weights="imagenet")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETRAINED)
def test_offline_without_cached_weights(name, tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(sys.modules["keras.src.backend.config"], "keras_home", lambda: str(tmp_path))
    with pytest.raises(RecipeError, match="weights are not cached .*Name or service not known"):
        build_network(name, weights="imagenet")


@pytest.mark.slow
def test_pixels_reach_resnet50_as_it_learnt_them():
    network = network_of("resnet50")
    rescaling = next(layer for layer in network.layers if isinstance(layer, layers.Rescaling))
    prepared = keras.Model(network.input, rescaling.output)
    grey = np.arange(0, 256, 51, dtype=np.float32)
    ours = predict(prepared, np.tile(grey[:, None, None, None], (1, 48, 48, 1)))
    colours = np.tile(grey[:, None, None, None], (1, 96, 96, 3))
    np.testing.assert_allclose(ours, keras.applications.resnet50.preprocess_input(colours), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETRAINED)
def test_two_phases_train_the_head_then_all_but_batch_normalisation(name):
    network = build_network(name)
    pretrained.freeze(network)
    assert [weight.path for weight in network.trainable_weights] == ["probabilities/kernel", "probabilities/bias"]
    pretrained.unfreeze(network)
    trainable = {weight.path.rpartition("/")[2] for weight in network.trainable_weights}
    assert "kernel" in trainable
    assert not trainable & {"gamma", "beta"}
