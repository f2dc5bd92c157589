"""The deeper network, with fearful and sad faces changed further."""

from dataclasses import replace

from mien.recipes import vgg
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Class-specific augmentation: fearful and sad faces are turned, zoomed and moved half as far again.

    Run: mien train stronger_classes
    """
    return replace(vgg.recipe(), name="stronger_classes", stronger_classes="fearful,sad")
