"""Options from dataclasses, how a command starts and ends, JAX's settings, the progress bar."""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field

import jax
import pytest
from absl import flags
from rich.console import Console

from dae_theory import commands
from dae_theory.checks import InputError, check_count
from dae_theory.commands import (
    ProgressBar,
    config_from_flags,
    define_flags,
    option,
    run_main,
)


@dataclass(frozen=True)
class Grid:
    n: tuple[int, ...] = option((2, 8), "Samples.")
    sigma: tuple[float, ...] = option((0.1,), "Noise levels.")
    cases: tuple[str, ...] = option(("a", "b"), "Cases.")
    size: int | None = option(None, "Side.")
    center: bool = option(True, "Subtract the mean.")
    rate: float = option(0.5, "Rate.")
    batch_size: int | None = option(None, "Samples a step.", flag="batch")

    def __post_init__(self) -> None:
        for n in self.n:
            check_count(n, "n")


@dataclass(frozen=True)
class Options:
    out: str | None = option(None, "Folder of the results, σ and all.")
    seeds: int = option(4, "Seeds.")
    grid: Grid = field(default_factory=Grid)
    unseen: int = 7


def parsed(*arguments: str) -> Options:
    values = flags.FlagValues()
    define_flags(Options, values)
    values(["command", *arguments])
    return config_from_flags(Options, values)


def test_options_of_a_dataclass_and_of_its_fields_have_the_types_of_the_fields():
    assert parsed() == Options()
    given = parsed(
        "--n=3,4", "--sigma=.5,1", "--cases=b", "--size=8", "--nocenter", "--rate=1", "--batch=5"
    )
    assert given.grid == Grid((3, 4), (0.5, 1.0), ("b",), 8, False, 1.0, 5)
    assert parsed("--out=x", "--seeds=2") == Options("x", 2)


@pytest.mark.parametrize("text", ["3,a", "1.5", "2;3"])
def test_lists_take_numbers_only(text):
    with pytest.raises(InputError, match=f"^n: expected numbers separated by commas, got '{text}'"):
        parsed(f"--n={text}")


def test_names_that_are_no_options_are_unknown():
    for name in ("unseen", "batch_size", "grid"):
        with pytest.raises(flags.UnrecognizedFlagError):
            parsed(f"--{name}=1")


def ran(capsys, *arguments, command=lambda options: 0, **keywords):
    status = run_main(command, Options, ["command", *arguments], "What it does.", **keywords)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_gets_the_options_and_gives_the_exit_status(capsys):
    found = []

    def command(options):
        found.append(options)
        return 1

    assert ran(capsys, "--seeds=3", "--n=1", command=command) == (1, "", "")
    assert found == [Options(seeds=3, grid=Grid(n=(1,)))]


def test_help_has_every_option_under_the_description(capsys):
    status, out, err = ran(capsys, "--help", command=pytest.fail)
    assert (status, err) == (0, "")
    assert out.startswith("What it does.\n")
    for line in (
        "--n: Samples.",
        "--batch: Samples a step.",
        "--[no]center: Subtract the mean.",
        "--[no]help: Print this help and stop.",
        "--[no]compilation_cache: ",
    ):
        assert line in out
    assert "commands.py" not in out


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--n=0", "error: n: must be at least 1, got 0\n"),
        ("--n=a", "error: n: expected numbers separated by commas, got 'a'\n"),
        ("--what=1", "error: Unknown command line flag 'what'\n"),
        ("--seeds=x", "error: flag --seeds=x: invalid literal for int() with base 10: 'x'\n"),
        ("what", "error: unexpected argument 'what'; options start with --\n"),
    ],
)
def test_bad_options_end_with_one_line_and_status_two(capsys, argument, message):
    assert ran(capsys, argument, command=pytest.fail) == (2, "", message)


def test_errors_of_the_command_end_with_one_line_and_status_two(capsys):
    def bad_input(options):
        raise InputError("data: what is wrong")

    def full_disk(options):
        raise OSError(28, "No space left on device", "x.npz")

    assert ran(capsys, command=bad_input) == (2, "", "error: data: what is wrong\n")
    status, _, err = ran(capsys, command=full_disk)
    assert (status, err) == (2, "error: cannot read or write x.npz: No space left on device\n")


def boom(options):
    raise ZeroDivisionError("division by\n zero")


def test_an_unforeseen_error_is_one_line_and_status_three(capsys):
    said = "error: unforeseen ZeroDivisionError (division by zero); --verbose shows where\n"
    assert ran(capsys, command=boom) == (3, "", said)
    status, _, err = ran(capsys, "--verbose", command=boom)
    assert status == 3
    assert err.startswith("Traceback")
    assert "in boom" in err
    assert err.endswith(said)


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 7 TiB"), RuntimeError("RESOURCE_EXHAUSTED: Out of")]
)
def test_no_memory_is_one_line_and_status_three(capsys, error):
    def hungry(options):
        raise error

    status, _, err = ran(capsys, command=hungry)
    assert (status, err.count("\n")) == (3, 1)
    assert err.startswith(f"error: too large for this machine ({error}); take fewer")


def test_a_command_may_have_more_to_say_when_verbose(capsys):
    @dataclass(frozen=True)
    class Chatty:
        verbose: bool = option(False, "Print more.")

    said = []

    def command(options):
        said.append(options.verbose)
        return boom(options)

    assert run_main(command, Chatty, ["command", "--verbose"], "") == 3
    assert said == [True]
    assert capsys.readouterr().err.startswith("Traceback")


PIPED = """
import sys
from dae_theory.commands import run_main
from dataclasses import dataclass

@dataclass(frozen=True)
class Nothing:
    pass

def command(options):
    print("x" * 100_000)
    return 0

sys.exit(run_main(command, Nothing, ["command"], ""))
"""


@pytest.mark.parametrize(
    ("where", "said"),
    [("| head -c 1", ""), ("> /dev/full", "error: cannot read or write No space left on device\n")],
)
def test_output_that_nobody_takes_ends_with_status_two(where, said):
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"{sys.executable}" -c "$0" {where}', PIPED],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (2, said)


def test_a_terminal_without_the_characters_does_not_stop_a_command(monkeypatch):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("out", "err")}
    monkeypatch.setattr(sys, "stdout", streams["out"])
    monkeypatch.setattr(sys, "stderr", streams["err"])

    def command(options):
        print("σ = .1")
        raise InputError("σ: must be > 0")

    assert run_main(command, Options, ["command"], "What it does.") == 2
    assert run_main(command, Options, ["command", "--help"], "λ and all.") == 0
    for stream in streams.values():
        stream.flush()
    assert streams["out"].buffer.getvalue().startswith(b"? = .1\n? and all.\n")
    assert streams["err"].buffer.getvalue() == b"error: ?: must be > 0\n"


SETTINGS = """
import json, sys, warnings
import jax
from dae_theory.commands import configure_jax
configure_jax(float64=sys.argv[1] == "float64", compilation_cache=sys.argv[2] == "cache")
value = float(jax.jit(lambda x: x @ x)(jax.numpy.eye(3))[0, 0])
print(json.dumps([
    str(jax.numpy.ones(1).dtype), jax.config.jax_default_matmul_precision, jax.device_count(), value
]))
"""


def configured(cache, floats: str, kept: str, **environment: str):
    """What a fresh process is set to, and its stderr."""
    done = subprocess.run(
        [sys.executable, "-c", SETTINGS, floats, kept],
        env=os.environ
        | {"DAE_THEORY_CACHE": str(cache), "JAX_COMPILATION_CACHE_DIR": ""}
        | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


def entries(folder):
    return sorted(path.name for path in folder.glob("*") if path.is_file())


def test_settings_of_a_process_and_programs_kept_for_the_next(tmp_path):
    found = configured(tmp_path, "float64", "cache", XLA_FLAGS="")
    assert found == (["float64", "highest", os.cpu_count(), 1.0], "")
    first = entries(tmp_path / "jax")
    assert first
    # The next process reads them: cut short, as by a kill, they are compiled again.
    assert configured(tmp_path, "float64", "cache", XLA_FLAGS="")[1] == ""
    assert entries(tmp_path / "jax") == first
    for name in first:
        path = tmp_path / "jax" / name
        path.write_bytes(path.read_bytes()[:20])
    found = configured(tmp_path, "float64", "cache", XLA_FLAGS="")
    assert found == (["float64", "highest", os.cpu_count(), 1.0], "")


def test_no_programs_are_kept_where_they_cannot_or_should_not(tmp_path):
    (tmp_path / "file").write_text("")
    found = configured(tmp_path / "file", "float32", "cache")
    assert found == (["float32", "highest", 2, 1.0], "")
    assert configured(tmp_path, "float32", "none") == found
    assert entries(tmp_path / "jax") == []
    configured(tmp_path, "float32", "cache", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert not (tmp_path / "jax").exists()


def test_the_cache_is_turned_off_by_an_option(capsys):
    before = jax.config.jax_enable_compilation_cache
    try:
        for arguments, kept in (([], True), (["--nocompilation_cache"], False)):
            jax.config.update("jax_enable_compilation_cache", True)
            assert ran(capsys, *arguments)[0] == 0
            assert jax.config.jax_enable_compilation_cache is kept
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def shown(monkeypatch, terminal: bool, seconds: float) -> str:
    """What a bar writes that is called after so many seconds."""
    text = io.StringIO()
    clock = iter([0.0, seconds])
    monkeypatch.setattr(commands.time, "monotonic", lambda: next(clock))
    console = Console(file=text, force_terminal=terminal, width=80)
    with contextlib.closing(ProgressBar(rate="cells/s", console=console)) as bar:
        bar("cells", 3, 8, "loss .5")
        monkeypatch.undo()
    return text.getvalue()


def test_a_bar_shows_on_a_terminal_after_a_while(monkeypatch):
    late = shown(monkeypatch, True, 2.5)
    assert "cells loss .5" in late
    assert "3/8" in late
    assert shown(monkeypatch, True, 0.5) == ""
    assert shown(monkeypatch, False, 2.5) == ""
