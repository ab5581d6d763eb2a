"""The recipes of docs/extending.md work as they are written, and are as long as they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECIPES = dict(
    re.findall(
        r"^## (An? [a-z ]+)\n(.*?)(?=^## |\Z)",
        (ROOT / "docs" / "extending.md").read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )
)
EDIT = re.compile(
    r"\*\*`(?P<file>[^`]+)`\*\*, (?:(?P<where>after|before|instead of) the line `(?P<line>[^`]+)`"
    r"|at the end|a new file):\n\n```python\n(?P<text>.*?)```",
    flags=re.DOTALL,
)


def apply(edit: re.Match, folder: Path) -> None:
    path, text, line = folder / edit["file"], edit["text"].strip("\n") + "\n", edit["line"]
    if line is None:
        path.write_text(f"{path.read_text()}\n\n{text}" if path.exists() else text)
        return
    content = path.read_text()
    assert content.splitlines().count(line) == 1, f"{path}: {line}"
    placed = {
        "after": f"{line}\n{text}",
        "before": f"{text}\n\n{line}\n" if text.startswith("def ") else f"{text}{line}\n",
        "instead of": text,
    }[edit["where"]]
    path.write_text(content.replace(f"{line}\n", placed, 1))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with all edits applied."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    hidden = shutil.ignore_patterns(".*", "__pycache__", "runs", "build", "*.egg-info")
    shutil.copytree(ROOT, folder, ignore=hidden)
    for recipe in RECIPES.values():
        for edit in EDIT.finditer(recipe):
            apply(edit, folder)
    return folder


def run(command: str, folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    words = command.replace("python -m", f"{sys.executable} -m", 1).split()
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def commands_of(name: str) -> tuple[list[str], list[str]]:
    """The commands of a recipe: those that show that it works, and those that run its tests."""
    blocks = re.findall(r"```console\n(.*?)```", RECIPES[name], flags=re.DOTALL)
    commands = [command for block in blocks for command in block.splitlines()]
    tests = [command for command in commands if command.startswith("python -m pytest")]
    return [command for command in commands if command not in tests], tests


LONG = {"A direction"}  # two runs that sample and look at samples


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in RECIPES]
)
def test_recipe_works(copy, name):
    for command in commands_of(name)[0]:
        run(command, copy)


@pytest.mark.slow  # nets of a whole regime are trained for them
@pytest.mark.parametrize("name", [name for name in RECIPES if commands_of(name)[1]])
def test_what_a_recipe_adds_passes_its_tests(copy, name):
    for command in commands_of(name)[1]:
        run(command, copy)


def test_recipes_are_as_long_as_they_say():
    table = re.findall(
        r"^\| (an? [a-z ]+) \| (\d+) \| (\d+) \|$",
        (ROOT / "docs" / "extending.md").read_text(),
        flags=re.MULTILINE,
    )
    measured = []
    for name, recipe in RECIPES.items():
        edits = list(EDIT.finditer(recipe))
        lines = sum(bool(line.strip()) for e in edits for line in e["text"].splitlines())
        measured.append((name.lower(), len({e["file"] for e in edits}), lines))
    assert [(name, int(files), int(lines)) for name, files, lines in table] == measured


def test_the_code_of_the_recipes_is_clean(copy):
    run("python -m ruff check .", copy)
    run("python -m ruff format --check .", copy)
