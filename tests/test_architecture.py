"""Rooms import strictly downward, in the order of docs/ARCHITECTURE.md."""

import ast
import os
from pathlib import Path

import pytest

import dae_theory

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    *("checks", "files", "commands", "statistics", "data", "theory", "relu", "solve", "weights"),
    *("minima", "memorization", "diffusion", "deep", "detect", "steer", "adapters", "sweep"),
)
PACKAGES = ("dae_theory", "proofs_checks", "figures")  # each may import those before it
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported_modules(path: Path) -> set[str]:
    """Modules of this project that a file imports, wherever in it and for whatever purpose."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.partition(".")[0] in PACKAGES}


def room_of(module: str) -> str:
    """'dae_theory.relu.loss' is in room 'relu'."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downward(path):
    package, *inner = path.relative_to(ROOT).with_suffix("").parts
    for module in imported_modules(path):
        target = module.partition(".")[0]
        assert PACKAGES.index(target) <= PACKAGES.index(package), module
        if package == target == "dae_theory" and inner != ["__init__"]:
            assert room_of(module) in ROOMS, f"{module}: from a room, not from the public API"
            assert ROOMS.index(room_of(module)) <= ROOMS.index(inner[0]), module


def test_every_room_of_the_library_has_its_place_in_the_order():
    folder = ROOT / "dae_theory"
    there = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - {"__init__", "__pycache__"} <= set(ROOMS)


def test_no_public_name_is_that_of_a_room():
    assert not set(dae_theory.__all__) & set(ROOMS)


def test_a_regime_imports_no_other():
    """What two regimes share stands beside the folders, not in one of them."""
    folders = [path for path in (ROOT / "proofs_checks").iterdir() if path.is_dir()]
    names = {path.name for path in folders if path.name != "__pycache__"}
    for name in names:
        for path in (ROOT / "proofs_checks" / name).rglob("*.py"):
            others = {room_of(m) for m in imported_modules(path) if m.startswith("proofs_checks.")}
            assert not others & (names - {name}), path


def test_tests_of_a_group_share_a_process(request):
    """pytest-xdist reads the group from an id that pytest 9.2 keeps to itself."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("all tests share this process")
    assert request.node.nodeid.endswith("@test_architecture")


def test_files_of_tests_have_names_of_their_own():
    """Pytest imports two files of one name as one module, and groups of tests are named by it."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
