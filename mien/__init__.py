"""mien: learn the seven FER2013 expressions, say honestly how well, and read them in pictures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.inference.classifier import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`mien.load`, imported when it is first asked for: `import mien` by itself takes no time."""
    if name != "load":
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    from mien.inference.classifier import load

    return load
