"""The deeper network, learning from many annotators' votes instead of one label."""

from dataclasses import replace

from mien.recipes import vgg
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Soft targets: each class's share of the FER+ votes. An extra annotation, so not comparable with the others.

    Run: mien train votes --votes votes.csv
    """
    return replace(vgg.recipe(), name="votes", targets="votes")
