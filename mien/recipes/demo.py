"""The demo: a network a tenth of the baseline's cost, and an epoch count for about a minute on two CPU cores."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """See the whole line work, from pictures to report.

    Run: mien train demo
    """
    return Recipe(
        name="demo",
        model="compact",
        learning_rate=3e-3,
        rotation=0.03,
        class_weights=False,
        epochs=4,
        plateau_patience=1,
    )
