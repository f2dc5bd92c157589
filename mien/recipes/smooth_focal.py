"""The deeper network with label smoothing on top of focal loss."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Label smoothing 0.1 and focal loss together.

    Run: mien train smooth_focal
    """
    return Recipe(
        name="smooth_focal",
        model="vgg",
        loss="focal",
        label_smoothing=0.1,
        stop_patience=15,
        plateau_patience=7,
        minimum_learning_rate=1e-6,
        epochs=80,
    )
