"""The tiny twin: as the flagship, with a network of a megabyte in whole numbers and ten million multiply-adds."""

from dataclasses import replace

from mien.recipes import base
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """The compact network, trained as the flagship is, with weaker changes for its smaller mind.

    Run: mien train tiny
    """
    return replace(base.recipe(), name="tiny", model="compact", erasing=0.1, mixup=0.1, label_smoothing=0.05)
