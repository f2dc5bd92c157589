"""The baseline: three convolution blocks, light augmentation, class weights, Adam."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Every choice of the project this one grew from, which reported accuracy 0.58 and macro-F1 0.54.

    Run: mien train baseline
    """
    return Recipe(name="baseline")
