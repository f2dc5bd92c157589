"""A student's probabilities and the images it saw in, the same probabilities out: what teachers say goes into the loss."""

from collections.abc import Callable
from typing import Any, no_type_check

import keras

Teacher = Callable[..., Any]  # images, training=False -> probabilities, in the backend's tensors


class Taught(keras.layers.Layer):
    """Adds, in training alone, the cross-entropy between what teachers say and the student, times `share`.

    Teachers see each image as the student does, changed and mixed (Beyer et al. 2022). They learn nothing and are not
    saved: what Keras does not find among a layer's attributes it neither trains nor writes.

    A batch is parted among the teachers, and with `mirror` they see every second image mirrored. Cross-entropy is linear
    in its targets: epoch by epoch the student follows the mean over teachers and mirror images, which knows more than any
    of them, and asking costs no more than one teacher does.
    """

    ask: Callable[[Any], Any]
    share: float
    mirror: bool

    @no_type_check  # Keras reads the signature of __init__, which a check at run time would hide
    def __init__(self, teachers: tuple[Teacher, ...], *, share: float, mirror: bool = False):
        super().__init__(dtype="float32")
        self.supports_jit = all(isinstance(teacher, keras.Model) for teacher in teachers)
        self.ask = lambda images: ask_in_parts(teachers, images)
        self.share = share
        self.mirror = mirror

    def call(self, student: Any, images: Any, training: bool | None = None) -> Any:
        if training:
            seen = mirror_every_second(images) if self.mirror else images
            said = keras.ops.stop_gradient(self.ask(seen))
            self.add_loss(self.share * keras.ops.mean(keras.losses.categorical_crossentropy(said, student)))
        return student


def ask_in_parts(teachers: tuple[Teacher, ...], images: Any) -> Any:
    """Probabilities of images (n, height, width, 1): the first teacher's of the first part, and so on, parts alike in size."""
    n, parts = keras.ops.shape(images)[0], len(teachers)
    said = [
        teacher(images[n * part // parts : n * (part + 1) // parts], training=False)
        for part, teacher in enumerate(teachers)
    ]
    return keras.ops.concatenate(said)


def mirror_every_second(images: Any) -> Any:
    """Images (n, height, width, 1), those of odd rows mirrored left to right."""
    odd = keras.ops.reshape(keras.ops.arange(keras.ops.shape(images)[0]) % 2 == 1, (-1, 1, 1, 1))
    return keras.ops.where(odd, keras.ops.flip(images, axis=2), images)
