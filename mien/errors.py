"""What can go wrong: one tree of errors, each a single line saying what came, what was expected and what to do.

MienError
├── DataError           a folder, file, row or array is not what was expected
├── RecipeError         a choice does not exist or is out of range
├── RunError            a training or its folder cannot be used as asked
└── MissingExtraError   a package is needed that the base install leaves out
"""

from collections.abc import Iterator
from contextlib import contextmanager


class MienError(Exception):
    """Any error a person can cure; the command line prints it as one line and exits with 1."""


class DataError(MienError):
    """A folder, file, row or array is not what was expected."""


class RecipeError(MienError):
    """A choice does not exist or is out of range."""


class RunError(MienError):
    """A training or its folder cannot be used as asked."""


class MissingExtraError(MienError, ImportError):
    """A package is needed that the base install leaves out."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a missing import inside the block into the pip line that cures it: `with extra("train"): import keras`."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name} is not installed; run: pip install 'mien[{name}]'") from error
