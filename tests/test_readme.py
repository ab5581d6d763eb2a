"""The README's commands and code are the ones that work."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_ci_runs_exactly_the_readme_test_command():
    commands = re.findall(r"^    (python3 -m venv .*)$", README, flags=re.MULTILINE)
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_library_example_runs():
    (example,) = re.findall(r"\n\n((?:    .*\n|\n)+?)\nWeights are \(D, P\)", README)
    names = {}
    exec("\n".join(line[4:] for line in example.splitlines()), names)
    assert names["solution"].converged
    assert max(names["comparison"].gain_errors) < 1e-6
