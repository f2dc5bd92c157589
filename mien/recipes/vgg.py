"""The deeper network: four blocks of two convolutions, 64 to 512 filters, strongly regularised."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """VGG-style network alone: the baseline's data, loss and weights, with longer patience and a lower floor.

    Run: mien train vgg
    """
    return Recipe(
        name="vgg",
        model="vgg",
        stop_patience=15,
        plateau_patience=7,
        minimum_learning_rate=1e-6,
        epochs=80,
    )
