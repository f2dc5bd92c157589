"""Pictures that are no one's but everybody's, and property tests that take their time."""

import warnings

import numpy as np
import pytest
from hypothesis import settings

# On a busy machine any example may take long. Fewer than Hypothesis' hundred: type checks make each one slow.
settings.register_profile("inference", deadline=None, max_examples=50)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """NASA's portrait of Eileen Collins, in the public domain, as scikit-image ships it: one face, smiling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pytest.importorskip("skimage.data")
        return np.asarray(data.astronaut())


@pytest.fixture(scope="session", autouse=True)
def unhurried():
    settings.load_profile("inference")
    yield
    settings.load_profile("default")
