"""ResNet50 from ImageNet, its head first, then all of it."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Transfer from ImageNet. Its weights are Keras' own download; weights=none trains from scratch.

    Run: mien train resnet50
    """
    return Recipe(
        name="resnet50",
        model="resnet50",
        weights="imagenet",
        frozen_epochs=5,
        stop_patience=15,
        plateau_patience=7,
        minimum_learning_rate=1e-6,
        epochs=80,
    )
