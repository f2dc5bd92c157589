"""The deeper network, with fearful and sad faces changed further."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Class-specific augmentation: fearful and sad faces are turned, zoomed and moved half as far again.

    Run: mien train stronger_classes
    """
    return Recipe(
        name="stronger_classes",
        model="vgg",
        stronger_classes="fearful,sad",
        stop_patience=15,
        plateau_patience=7,
        minimum_learning_rate=1e-6,
        epochs=80,
    )
