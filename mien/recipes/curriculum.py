"""The deeper network, shown easy faces first."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Curriculum: the images that a short pilot finds easy come first; all take part after ten epochs.

    Run: mien train curriculum
    """
    return Recipe(
        name="curriculum",
        model="vgg",
        curriculum="pilot",
        stop_patience=15,
        plateau_patience=7,
        minimum_learning_rate=1e-6,
        epochs=80,
    )
