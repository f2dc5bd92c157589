"""The task: seven expressions and their order, the 48×48 grey face, and the array types every room shares."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float, Float32, Int64, Shaped, UInt8

EMOTIONS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
SIZE = 48  # pixels on a side; FER2013 images are SIZE × SIZE, grey

# Pixels are 0..255 everywhere outside a network: normalising is every network's first layer.
Image48 = UInt8[np.ndarray, "48 48 1"]
Images = UInt8[np.ndarray, "n 48 48 1"]
Labels = Int64[np.ndarray, " n"]  # indices into the classes of the data set
Indices = Int64[np.ndarray, " rows"]  # which rows of an array
Names = Shaped[np.ndarray, " n"]  # strings, one an image: "train/happy/im12.png"
Probabilities = Float32[np.ndarray, "n classes"]  # rows sum to one
ConfusionMatrix = Int64[np.ndarray, "classes classes"]  # rows are true classes, columns predicted ones
ClassFigures = Float[np.ndarray, " classes"]

Track = Callable[
    [Sequence[str], str], Iterable[str]
]  # (items, what is being done) -> the same items, with progress shown
