"""Teachers that look on: what they add to the loss, and what they leave alone."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from mien.errors import RunError
from mien.inference.classifier import WEIGHTS, load
from mien.models import build_network
from mien.training.taught import Taught, ask_in_parts, mirror_every_second
from mien.training.trainer import build_batches, compile_for, network_of, targets_of, wrap
from mien.training.tutors import Tutors


def cross_entropy(targets, probabilities):
    return -(targets * np.log(probabilities)).sum(axis=1).mean()


def in_halves(teachers, images):
    """What the first teacher says of the first half, and the second of the rest."""
    one, two = teachers
    half = len(images) // 2
    return np.concatenate([one(images[:half], training=False), two(images[half:], training=False)])


@pytest.fixture
def taught(small):
    """A recipe that changes no image, two teachers, and their student."""
    unchanged = {"flip": False, "rotation": 0.0, "zoom": 0.0, "shift": 0.0, "class_weights": False, "mixup": 0.5}
    recipe = replace(small, targets="teacher_views", teacher_share=0.75, **unchanged)
    teachers = (build_network("compact"), build_network("compact"))
    model = wrap(recipe, classes=7, taught=Taught(teachers, share=recipe.teacher_share))
    compile_for(model, recipe, learning_rate=1e-3)
    return recipe, teachers, model


def test_the_loss_is_of_labels_and_teachers_in_their_shares(taught, splits):
    recipe, teachers, model = taught
    batches = build_batches(recipe, splits.train, targets_of(splits.train))
    given, targets, weights = batches[0]
    share = given["share"][:, :, np.newaxis, np.newaxis]
    mixed = share * given["image"] + (1 - share) * given["image"][::-1]
    said = in_halves(teachers, mixed)
    student = np.array(model(given, training=True))
    expected = 0.25 * cross_entropy(targets, student) + 0.75 * cross_entropy(said, student)
    assert weights == pytest.approx(np.full(len(targets), 0.25))
    (added,) = model.losses
    assert float(added) == pytest.approx(0.75 * cross_entropy(said, student), rel=1e-4)
    assert float(model.compute_loss(y=targets, y_pred=student, sample_weight=weights)) == pytest.approx(
        expected, rel=1e-4
    )


def test_teachers_see_every_second_image_mirrored(taught, splits):
    _, teachers, _ = taught
    ours = Taught(teachers, share=0.75, mirror=True)
    images = keras.ops.cast(splits.train.images[:5], "float32")
    student = keras.ops.softmax(keras.ops.ones((5, 7)))
    assert ours(student, images, training=True) is student
    seen = np.stack([image[:, ::-1] if row % 2 else image for row, image in enumerate(np.array(images))])
    np.testing.assert_array_equal(mirror_every_second(images), seen)
    said = in_halves(teachers, seen)
    (added,) = ours.losses
    assert float(added) == pytest.approx(0.75 * cross_entropy(said, np.array(student)), rel=1e-4)


def test_judged_alone_a_student_is_judged_by_labels(taught, splits):
    recipe, _, model = taught
    batches = build_batches(recipe, splits.train, targets_of(splits.train))
    model.train_on_batch(*batches[0])
    images, targets = splits.validation.images, targets_of(splits.validation)
    given = {"image": images, "share": np.ones((len(images), 1), np.float32)}
    student = model.predict_on_batch(given)
    found = model.test_on_batch(given, targets, return_dict=True)
    assert found["loss"] == pytest.approx(cross_entropy(targets, student), rel=1e-4)


def test_teachers_learn_nothing_and_are_not_saved(taught, splits, tmp_path):
    recipe, teachers, model = taught
    before = [teacher.get_weights() for teacher in teachers]
    student = network_of(model).get_weights()
    model.train_on_batch(*build_batches(recipe, splits.train, targets_of(splits.train))[0])
    for teacher, weights in zip(teachers, before, strict=True):
        for now, then in zip(teacher.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(now, then)
    assert any((now != then).any() for now, then in zip(network_of(model).get_weights(), student, strict=True))
    assert model.count_params() == network_of(model).count_params()
    model.save_weights(tmp_path / "student.weights.h5")
    alone = wrap(replace(recipe, targets="labels"), classes=7)
    alone.load_weights(tmp_path / "student.weights.h5")
    images = splits.test.images[:4]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(network_of(alone)(images)),
        keras.ops.convert_to_numpy(network_of(model)(images)),
        atol=1e-6,
    )


def test_an_exported_file_is_asked_by_tensorflow_alone(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RunError, match="computes with jax, where base.onnx cannot be asked; expected tensorflow: set"):
        Tutors((WEIGHTS / "base.onnx",)).open(precision="float32")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exported files are asked by TensorFlow alone")
def test_a_batch_may_hold_fewer_images_than_there_are_teachers(splits):
    teachers = Tutors((WEIGHTS / "base.onnx", WEIGHTS / "tiny.onnx")).open(precision="float32")
    said = ask_in_parts(teachers, keras.ops.cast(splits.train.images[:1], "float32"))
    expected = load("tiny").run(splits.train.images[:1])
    np.testing.assert_allclose(np.array(said), expected, atol=1e-6)
