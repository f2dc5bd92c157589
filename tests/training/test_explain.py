import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.errors import RecipeError, RunError
from mien.models import build_network
from mien.training import explain
from mien.training.explain import explanations, grad_cam, lay_squares, occlusion_maps, overlay
from mien.training.trained import TrainedNetwork

CHANNELS, HIDDEN, CLASSES = 6, 5, 3


def draw_weights(seed=0):
    chance = np.random.default_rng(seed)
    return [
        chance.normal(size=(3, 3, 1, CHANNELS)),
        chance.normal(size=CHANNELS),
        chance.normal(size=(CHANNELS, HIDDEN)),
        chance.normal(size=HIDDEN),
        chance.normal(size=(HIDDEN, CLASSES)),
        chance.normal(size=CLASSES),
    ]


def convolutions():
    return [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(CHANNELS, 3, padding="same", activation="relu")]


def head(pool=None):
    return [
        *([pool] if pool else []),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(HIDDEN, activation="relu"),
        keras.layers.Dense(CLASSES, activation="softmax"),
    ]


def chain(*layers):
    """A network of convolutions and two dense layers whose weights are known."""
    image = x = keras.Input((48, 48, 1))
    for layer in layers:
        x = layer(x)
    network = keras.Model(image, x)
    network.set_weights(draw_weights())
    return network


def nested():
    inner = keras.Sequential([keras.Input((48, 48, 1)), *convolutions()])
    return chain(inner, *head())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (5, 48, 48, 1), np.uint8)


def by_hand(images, targets):
    """Grad-CAM of `chain`, with the slopes written out: pooling gives each pixel 1 / 48², a dead hidden unit none."""
    filters, offsets, mixing, bias, scoring, _ = draw_weights()
    padded = np.pad(images[..., 0] / 255, [(0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    maps = np.maximum(np.einsum("nyxij,ijc->nyxc", windows, filters[:, :, 0]) + offsets, 0)
    alive = maps.mean(axis=(1, 2)) @ mixing + bias > 0
    weights = np.einsum("ch,nh,hn->nc", mixing, alive, scoring[:, targets]) / 48**2
    heats = np.maximum(np.einsum("nc,nyxc->nyx", weights, maps), 0)
    return heats / np.maximum(heats.max(axis=(1, 2), keepdims=True), 1e-30)


@pytest.mark.parametrize("build", [lambda: chain(*convolutions(), *head()), nested], ids=["flat", "nested"])
def test_grad_cam_equals_the_slopes_written_out(images, build):
    targets = np.array([0, 1, 2, 0, 1])
    found = grad_cam(build(), images, targets=targets)
    expected = by_hand(images, targets)
    assert (expected.max(axis=(1, 2)) == 1).sum() >= 3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_map_is_taken_before_the_last_pooling(images):
    pooled = chain(*convolutions(), *head(keras.layers.AveragePooling2D(4)))  # mean of means: the same slopes
    targets = np.array([0, 1, 2, 0, 1])
    np.testing.assert_allclose(grad_cam(pooled, images, targets=targets), by_hand(images, targets), atol=1e-4)


def test_many_images_are_read_in_batches(images, monkeypatch):
    network = build_network("compact", classes=CLASSES)
    targets = np.array([0, 1, 2, 0, 1])
    whole = grad_cam(network, images, targets=targets)
    monkeypatch.setattr(explain, "BATCH", 2)
    np.testing.assert_allclose(grad_cam(network, images, targets=targets), whole, atol=1e-5)


def test_a_coarse_map_is_enlarged_smoothly(images):
    keras.utils.set_random_seed(0)
    heats = grad_cam(build_network("compact"), images, targets=np.zeros(5, np.int64))
    assert heats.shape == (5, 48, 48)
    assert heats.min() >= 0
    assert set(heats.max(axis=(1, 2)).tolist()) <= {0, 1}
    assert heats.max() == 1
    assert np.abs(np.diff(heats, axis=1)).max() < 0.35  # a 6 × 6 map would jump by up to 1


def test_a_network_explained_is_still_the_network_it_was(images, tmp_path):
    network = build_network("compact")
    before = network.predict(images, verbose=0)
    grad_cam(network, images, targets=np.zeros(5, np.int64))
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), before, atol=1e-6)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in network.layers]


def test_networks_that_have_no_map_are_refused(images):
    image = keras.Input((48, 48, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.Model(image, keras.layers.Dense(3, activation="softmax")(flat), name="flat")
    with pytest.raises(RunError, match="network 'flat' has no feature map"):
        grad_cam(dense, images, targets=np.zeros(5, np.int64))
    maps = keras.layers.Conv2D(3, 3)(image)
    headless = keras.Model(image, keras.layers.GlobalAveragePooling2D()(maps), name="headless")
    with pytest.raises(RunError, match="network 'headless' has no dense layer of 3 classes"):
        grad_cam(headless, images, targets=np.zeros(5, np.int64))


def test_a_backend_without_slopes_is_named(images, monkeypatch):
    network = build_network("compact")
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(RunError, match="backend torch; expected tensorflow or jax"):
        grad_cam(network, images, targets=np.zeros(5, np.int64))


def sees_one_pixel(images):
    """A classifier whose first chance is how bright the pixel in row 20, column 30 is."""
    bright = images[:, 20, 30, 0].astype(np.float32) / 255
    return np.stack([bright, 1 - bright], axis=1)


@settings(max_examples=15)
@given(size=st.integers(1, 48), stride=st.integers(1, 48))
def test_occlusion_is_the_mean_loss_of_the_squares_over_a_pixel(size, stride):
    if stride > size or stride < 4:  # too many squares to lay one by one
        return
    images = np.full((2, 48, 48, 1), 40, np.uint8)
    images[1, 20, 30] = 240  # its mean, the grey of the squares, stays 40
    found = occlusion_maps(sees_one_pixel, images, targets=np.array([0, 0]), size=size, stride=stride)
    total, squares = np.zeros((48, 48)), np.zeros((48, 48))
    for top in sorted({*range(0, 49 - size, stride), 48 - size}):
        for left in sorted({*range(0, 49 - size, stride), 48 - size}):
            hides = top <= 20 < top + size and left <= 30 < left + size
            total[top : top + size, left : left + size] += hides * 200 / 255
            squares[top : top + size, left : left + size] += 1
    np.testing.assert_allclose(found[0], 0)
    np.testing.assert_allclose(found[1], total / squares, atol=1e-6)


def test_a_place_that_speaks_against_the_class_is_negative():
    images = np.full((1, 48, 48, 1), 40, np.uint8)
    images[0, 20, 30] = 240
    found = occlusion_maps(sees_one_pixel, images, targets=np.array([1]))
    assert found[0, 20, 30] == pytest.approx(-200 / 255)


def test_occlusion_predicts_many_pictures_at_once_but_not_all(monkeypatch):
    asked = []

    def predict(images):
        asked.append(len(images))
        return sees_one_pixel(images)

    images = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), np.uint8)
    whole = occlusion_maps(sees_one_pixel, images, targets=np.zeros(5, np.int64))
    monkeypatch.setattr(explain, "PREDICTED", 100)
    np.testing.assert_array_equal(occlusion_maps(predict, images, targets=np.zeros(5, np.int64)), whole)
    assert max(asked) == 2 * 49


@pytest.mark.parametrize(("size", "stride"), [(0, 1), (49, 6), (6, 7), (6, 0)])
def test_squares_that_cannot_cover_a_face_are_refused(size, stride):
    with pytest.raises(RecipeError, match="expected 1 <= stride <= size <= 48"):
        occlusion_maps(
            sees_one_pixel, np.zeros((1, 48, 48, 1), np.uint8), targets=np.array([0]), size=size, stride=stride
        )


def test_every_pixel_is_hidden_by_some_square():
    assert all(lay_squares(size, stride).any(axis=0).all() for size in range(1, 49, 5) for stride in range(1, size, 7))


def test_an_overlay_is_the_face_where_the_map_is_zero_and_yellow_where_it_is_one():
    face = np.full((48, 48, 1), 100, np.uint8)
    heat = np.zeros((48, 48), np.float32)
    heat[:, 24:] = 1
    picture = overlay(face, heat)
    assert picture.shape == (144, 144, 3)
    np.testing.assert_array_equal(picture[:, :60], 100)
    np.testing.assert_array_equal(picture[0, -1], np.round(0.3 * 100 + 0.7 * np.array([252, 255, 164])))


def test_stronger_places_are_lighter_unless_the_face_is_brighter():
    heat = np.tile(np.linspace(0.35, 1, 48, dtype=np.float32), (48, 1))
    for grey in (0, 60, 120):
        light = overlay(np.full((48, 48, 1), grey, np.uint8), heat)[70] @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(light) > -1).all()  # but for rounding


@pytest.fixture(scope="module")
def classifier():
    return TrainedNetwork(build_network("compact"), ("angry",) * 7)


def test_explanations_show_what_is_read_right_and_the_worst_mistakes(drawn, classifier):
    test = drawn.test
    probabilities = np.full((len(test), 7), 0.05, np.float32)
    predicted = test.labels.copy()
    predicted[test.labels == 1] = 0  # no disgusted face is read right
    probabilities[np.arange(len(test)), predicted] = 0.7
    surest = np.flatnonzero(test.labels == 1)[-1]
    probabilities[surest] = [0.999] + 6 * [0.001 / 6]
    pictures = explanations(classifier, test, probabilities, mistakes=2)
    means = [caption for caption in pictures if "mean of" in caption]
    counts = dict(zip(test.classes, test.counts().tolist(), strict=True))
    assert means == [
        f"{name}: where the network looks, mean of {counts[name]} faces" for name in test.classes if name != "disgusted"
    ]
    assert list(pictures)[6:] == [
        f"mistake {place}, disgusted read as angry ({sure}): the face, where the network looks, what it misses when hidden"
        for place, sure in ((1, ">99%"), (2, "70%"))
    ]
    assert [picture.shape for picture in pictures.values()] == 6 * [(144, 144, 3)] + 2 * [(432, 144, 3)]
    face = pictures[list(pictures)[6]][:144]
    np.testing.assert_array_equal(face[..., 0], face[..., 2])
    assert np.abs(face[1::3, 1::3, 0].astype(int) - test.images[surest, ..., 0]).max() < 20


def test_without_mistakes_there_are_no_pictures_of_them(drawn, classifier):
    few = drawn.test.take(np.arange(3))
    perfect = np.eye(7, dtype=np.float32)[few.labels]
    assert [caption for caption in explanations(classifier, few, perfect) if "mistake" in caption] == []


def test_means_are_of_a_hundred_faces_at_most(drawn, classifier, monkeypatch):
    monkeypatch.setattr(explain, "READ", 2)
    angry = dataclasses.replace(drawn.test.take(np.arange(4)), labels=np.zeros(4, np.int64))
    pictures = explanations(classifier, angry, np.eye(7, dtype=np.float32)[angry.labels])
    assert list(pictures) == ["angry: where the network looks, mean of 2 faces"]
