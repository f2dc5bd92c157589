"""The deeper network with focal loss."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Focal loss, γ 2 and α 0.25: what is easy counts less.

    Run: mien train vgg_focal
    """
    return Recipe(
        name="vgg_focal",
        model="vgg",
        loss="focal",
        stop_patience=15,
        plateau_patience=7,
        minimum_learning_rate=1e-6,
        epochs=80,
    )
