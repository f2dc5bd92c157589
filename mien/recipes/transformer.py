"""A compact convolutional transformer."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """A vision transformer for small images, from scratch.

    Run: mien train transformer
    """
    return Recipe(
        name="transformer",
        model="transformer",
        stop_patience=15,
        plateau_patience=7,
        minimum_learning_rate=1e-6,
        epochs=80,
    )
