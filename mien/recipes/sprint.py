"""The shortest road to a fair network: as the tiny twin, with a network whose first layer halves the picture."""

from dataclasses import replace

from mien.recipes import tiny
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Eight epochs of the compact network, which takes three quarters of the time of the tiny twin's.

    Test accuracy 61.9 % (61.2 to 62.4), macro-F1 0.56 (seeds 42 to 44, 2 minutes on one CPU core).

    Run: mien train sprint, or as measured: mien train sprint precision=mixed_bfloat16
    """
    return replace(
        tiny.recipe(),
        name="sprint",
        model="compact",
        warmup_epochs=1,
        epochs=8,
    )
