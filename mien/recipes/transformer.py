"""A compact convolutional transformer."""

from dataclasses import replace

from mien.recipes import vgg
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """A vision transformer for small images, from scratch.

    Run: mien train transformer
    """
    return replace(vgg.recipe(), name="transformer", model="transformer")
