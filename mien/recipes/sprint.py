"""The shortest road to a fair network: as the tiny twin, without what pays only over many epochs."""

from dataclasses import replace

from mien.recipes import tiny
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Eight epochs of the tiny twin's network.

    Test accuracy 61.3 %, macro-F1 0.55 (one seed, 3 minutes on one CPU core).

    Run: mien train sprint, or as measured: mien train sprint precision=mixed_bfloat16
    """
    return replace(
        tiny.recipe(),
        name="sprint",
        warmup_epochs=1,
        epochs=8,
    )
