"""What is written down is true: generated pages are current, and the README's commands exist."""

import re
import subprocess
import sys
from pathlib import Path

from mien.cli import app

ROOT = Path(__file__).parents[1]


def test_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, "scripts/write_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_in_the_readme_exists():
    verbs = set(re.findall(r"^(?:\$ )?mien (\w+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    assert verbs
    assert verbs <= set(app)


def test_the_readme_tree_names_files_that_exist():
    tree = re.search(r"```text\n(mien/.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL).group(1)
    names = re.findall(r"^  (\S+)", tree, flags=re.MULTILINE)
    assert names
    assert not [name for name in names if not (ROOT / "mien" / name).exists()]


def test_rooms_import_only_from_the_rooms_above():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
