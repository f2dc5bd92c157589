"""The deeper network with label smoothing."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Label smoothing 0.1: no label is taken for certain.

    Run: mien train smooth
    """
    return Recipe(
        name="smooth",
        model="vgg",
        label_smoothing=0.1,
        stop_patience=15,
        plateau_patience=7,
        minimum_learning_rate=1e-6,
        epochs=80,
    )
