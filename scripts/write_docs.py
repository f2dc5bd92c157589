"""Write the generated pages of docs/; with --check, say which are out of date instead."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from mien.cli import app
from mien.recipes import RECIPES

DOCS = Path(__file__).parents[1] / "docs"


def cli_page() -> str:
    return app.generate_docs().rstrip() + "\n"


def recipes_page() -> str:
    lines = ["# Recipes", "", "A recipe is one file in `mien/recipes/`; its text is its promise.", ""]
    for name, function in RECIPES.items():
        promise = "\n".join(line.strip() for line in (function.__doc__ or "").strip().splitlines())
        lines += [f"## {name}", "", promise, ""]
    return "\n".join(lines)


PAGES = {"cli.md": cli_page, "recipes.md": recipes_page}


def main() -> None:
    stale = [name for name, page in PAGES.items() if not is_current(DOCS / name, page())]
    if "--check" in sys.argv[1:]:
        sys.exit(f"out of date: {', '.join(stale)}; run: make docs" if stale else 0)
    for name in stale:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")


def is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


main()
