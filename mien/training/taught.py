"""A student's probabilities and the images it saw in, the same probabilities out: what teachers say goes into the loss."""

from collections.abc import Callable
from typing import Any, no_type_check

import keras

from mien.errors import RunError
from mien.models import build_network
from mien.training.runs import Run
from mien.training.trained import load_trained


class Taught(keras.layers.Layer):
    """Adds, in training alone, the cross-entropy between the teachers' mean and the student, times `share`.

    Teachers see each image as the student does, changed and mixed (Beyer et al. 2022). They learn nothing and are not
    saved: what Keras does not find among a layer's attributes it neither trains nor writes.
    """

    ask: Callable[[Any], Any]
    share: float

    @no_type_check  # Keras reads the signature of __init__, which a check at run time would hide
    def __init__(self, teachers: tuple[keras.Model, ...], *, share: float):
        super().__init__(dtype="float32")
        self.ask = lambda images: sum(teacher(images, training=False) for teacher in teachers) / len(teachers)
        self.share = share

    def call(self, student: Any, images: Any, training: bool | None = None) -> Any:
        if training:
            said = keras.ops.stop_gradient(self.ask(images))
            self.add_loss(self.share * keras.ops.mean(keras.losses.categorical_crossentropy(said, student)))
        return student


def without_teachers(model: keras.Model) -> keras.Model:
    """The same augmenter and network, where teachers would be asked in vain."""
    last = model.layers[-1]
    return keras.Model(model.input, last.input[0]) if isinstance(last, Taught) else model


def open_teacher(run: Run, *, precision: str) -> keras.Model:
    """The network of a finished run, to be asked alone, computing in `precision`."""
    trained = load_trained(run)
    network = build_network(run.recipe.model, classes=len(trained.classes), precision=precision)
    try:
        network.set_weights(trained.network.get_weights())
    except ValueError as error:
        raise RunError(
            f"{run.path} was trained when {run.recipe.model} was another network; expected a run of what it is now"
        ) from error
    network.trainable = False
    return network
