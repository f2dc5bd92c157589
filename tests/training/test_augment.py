"""Random changes: as far as they are said to go, in training alone, and mixing as the targets are mixed."""

import keras
import numpy as np
import pytest

from mien.training.augment import RandomWarp, Strength, build_augmenter
from mien.training.batches import Batches, InOrder

STILL = Strength(flip=False, rotation=0.0, zoom=0.0, shift=0.0)


@pytest.fixture
def faces():
    return np.random.default_rng(0).integers(0, 256, (6, 48, 48, 1), np.uint8)


@pytest.mark.parametrize(
    ("choices", "at_rest"),
    [({"one_warp": True}, True), ({"erasing": 1.0}, True), ({"one_warp": True, "erasing": 0.5}, True)],
)
def test_images_change_in_training_alone(faces, choices, at_rest):
    augmenter = build_augmenter(Strength(True, 0.1, 0.1, 0.1), seed=1, **choices)
    assert np.array_equal(augmenter(faces, training=False), faces) is at_rest
    changed = np.array(augmenter(faces, training=True))
    assert all((after != before).any() for after, before in zip(changed, faces, strict=True))
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_a_warp_of_no_strength_leaves_images_as_they_are(faces):
    assert np.allclose(RandomWarp(STILL, seed=1)(faces.astype(np.float32), training=True), faces, atol=1e-3)


def test_a_warp_turns_about_the_centre_and_moves_no_further_than_told():
    warp = RandomWarp(Strength(flip=False, rotation=0.05, zoom=0.1, shift=0.1), seed=3)
    transforms = np.array(warp.draw_transforms(500))[:, :6].reshape(500, 2, 3)
    centre = transforms @ np.array([23.5, 23.5, 1.0]) - 23.5
    assert np.abs(centre).max() <= 4.8 + 1e-4
    assert np.abs(centre).max() > 4
    sizes = np.sqrt(np.abs(np.linalg.det(transforms[:, :, :2])))
    assert 0.9 - 1e-5 <= sizes.min() < 0.92
    assert 1.08 < sizes.max() <= 1.1 + 1e-5
    turns = np.degrees(np.arctan2(transforms[:, 1, 0], transforms[:, 0, 0]))
    assert 17 < np.abs(turns).max() <= 18 + 1e-3


def test_one_warp_moves_pixels_as_kerass_own_layer_does():
    """The same turn, by our transform and by keras.layers.RandomRotation with its factor fixed."""
    picture = np.zeros((1, 48, 48, 1), np.float32)
    picture[0, 10:20, 12:30] = 200
    turned = np.array(keras.layers.RandomRotation((0.05, 0.05), fill_mode="reflect")(picture, training=True))
    cos, sin = np.cos(0.1 * np.pi), np.sin(0.1 * np.pi)
    best = min(
        np.abs(turned - keras.ops.image.affine_transform(picture, row(cos, way * sin), fill_mode="reflect")).max()
        for way in (-1, 1)
    )
    assert best < 1


def row(cos: float, sin: float) -> np.ndarray:
    centre = 23.5
    x, y = centre * (1 - cos + sin), centre * (1 - cos - sin)
    return np.array([[cos, -sin, x, sin, cos, y, 0, 0]], np.float32)


def test_the_classes_to_be_changed_further_are_and_no_others(faces):
    augmenter = build_augmenter(STILL, stronger=Strength(True, 0.1, 0.1, 0.1), seed=1)
    chosen = np.array([True, False, True, True, False, False])
    changed = np.array(augmenter({"image": faces, "stronger": chosen[:, np.newaxis].astype(np.float32)}, training=True))
    assert [bool((after != before).any()) for after, before in zip(changed, faces, strict=True)] == chosen.tolist()


def test_erasing_paints_over_a_part_of_the_share_of_images():
    faces = np.full((400, 48, 48, 1), 10, np.uint8)
    painted = np.array(build_augmenter(STILL, erasing=0.25, seed=1)(faces, training=True)) == 128
    touched = painted.any(axis=(1, 2, 3))
    assert 0.15 < touched.mean() < 0.35
    assert 0.01 < painted[touched].mean() < 0.34


def test_mixing_an_image_with_its_partner_mixes_their_targets_alike(faces):
    targets = np.eye(6, dtype=np.float32)
    batches = Batches(faces, targets, batch_size=6, seed=3, mixup=0.4)
    inputs, mixed = batches[0]
    images = np.array(build_augmenter(STILL, mixup=True, seed=1)(inputs, training=True))
    for image, shares in zip(images, mixed, strict=True):
        assert np.isclose(shares.sum(), 1)
        assert np.count_nonzero(shares) <= 2
        assert np.allclose(image, np.tensordot(shares, faces.astype(np.float32), 1), atol=1e-2)
    again = Batches(faces, targets, batch_size=6, seed=3, mixup=0.4)[0]
    assert np.array_equal(again[1], mixed)
    batches.on_epoch_end()
    assert not np.array_equal(batches[0][0]["share"], inputs["share"])


def test_validation_batches_hold_every_image_once_and_in_order(faces):
    targets, share = np.eye(6, dtype=np.float32), np.arange(6, dtype=np.float32)
    plain = InOrder(faces, targets, batch_size=4)
    assert len(plain) == 2
    assert np.array_equal(np.concatenate([plain[0][0], plain[1][0]]), faces)
    assert np.array_equal(np.concatenate([plain[0][1], plain[1][1]]), targets)
    mixing = InOrder({"image": faces, "share": share}, targets, batch_size=4)
    assert np.array_equal(np.concatenate([mixing[0][0]["share"], mixing[1][0]["share"]]), share)
