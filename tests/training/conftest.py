import keras
import pytest

from mien.data.splits import split
from mien.training.recipe import Recipe
from mien.training.runs import Run


@pytest.fixture(scope="session")
def splits(drawn):
    return split(drawn)


@pytest.fixture
def small():
    """A recipe that trains in seconds on drawn faces."""
    return Recipe(name="small", model="compact", epochs=4, batch_size=32)


@pytest.fixture
def new_run(tmp_path, splits):
    def create(recipe, name="run"):
        return Run.create(tmp_path / name, recipe, split={"data": "drawn", **splits.to_dict()})

    return create


@pytest.fixture(autouse=True)
def forget_networks():
    """Every graph that Keras ever traced would stay in memory."""
    yield
    keras.utils.clear_session()


class StopAfter(keras.callbacks.Callback):
    """Ends a training in the middle, as kill -9 would: nothing after it gets to run."""

    def __init__(self, epochs: int, batches: int = 0):
        super().__init__()
        self.epochs, self.batches, self.epoch = epochs, batches, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch >= self.epochs and batch >= self.batches:
            raise KeyboardInterrupt


@pytest.fixture
def stop_after():
    return StopAfter
