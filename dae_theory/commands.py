"""What the commands of this project share: options made from a dataclass, one way to start and to
end, JAX's settings, a progress bar.

A command is a frozen dataclass of `option` fields and a function of it:

    @dataclass(frozen=True)
    class Options:
        out: str | None = option(None, "Folder of the results.")
        config: SweepConfig = field(default_factory=SweepConfig)  # its options are options, too

    def main(argv: list[str]) -> int:
        return run_main(sweep, Options, argv, __doc__)

    if __name__ == "__main__":
        configure_jax(float64=False)
        sys.exit(main(sys.argv))
"""

import dataclasses
import gc
import io
import os
import sys
import time
import traceback
import types
import typing
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
from absl import flags
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from dae_theory.checks import InputError
from dae_theory.files import cache_folder

Config = TypeVar("Config")
DEFINE = {
    bool: flags.DEFINE_bool,
    float: flags.DEFINE_float,
    int: flags.DEFINE_integer,
    str: flags.DEFINE_string,
}

BAD_INPUT, UNFORESEEN = 2, 3  # exit statuses
TOO_LARGE = ("RESOURCE_EXHAUSTED", "array is too big", "Maximum allowed dimension", "too large")
SHOWN = 200  # characters of an unforeseen error's message

flags.disclaim_key_flags()  # --help lists the options under the command's file, not this one


def option(default: Any, text: str, flag: str | None = None) -> Any:
    """A field of a frozen dataclass that is an option of the command line.

    Args:
      default: a bool, int, float or str, a tuple of these (a list separated by commas on the
        command line), or None where the field's type is one of them or None.
      text: what --help says.
      flag: name on the command line, where it is not the field's.
    """
    return dataclasses.field(default=default, metadata={"help": text, "flag": flag})


class _Option(NamedTuple):
    """A field that is an option; ``kind`` is the type of its value, or of each of a list."""

    name: str
    flag: str
    text: str
    default: Any
    kind: type
    is_list: bool


def _split_fields(config_class: type) -> tuple[list[_Option], dict[str, type]]:
    """The options of a dataclass, and its fields that are dataclasses with options of their own."""
    options, nested = [], {}
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            nested[field.name] = kind
        elif "help" in field.metadata:
            if typing.get_origin(kind) in (types.UnionType, typing.Union):  # X | None
                (kind,) = (k for k in typing.get_args(kind) if k is not types.NoneType)
            is_list = typing.get_origin(kind) is tuple
            kind = typing.get_args(kind)[0] if is_list else kind
            flag = field.metadata["flag"] or field.name
            text = field.metadata["help"]
            options.append(_Option(field.name, flag, text, field.default, kind, is_list))
    return options, nested


def define_flags(config_class: type, values: flags.FlagValues) -> None:
    """Define the options of a dataclass, and of dataclasses that are its fields, in ``values``."""
    options, nested = _split_fields(config_class)
    for _, flag, text, default, kind, is_list in options:
        if is_list:
            default = None if default is None else [str(item) for item in default]
        define = flags.DEFINE_list if is_list else DEFINE[kind]
        define(flag, default, text, flag_values=values)
    for kind in nested.values():
        define_flags(kind, values)


def config_from_flags(config_class: type[Config], values: flags.FlagValues) -> Config:
    """The dataclass that parsed options describe; fields that are no options keep their default.

    Raises:
      InputError: for a list with an element of the wrong kind, and as the dataclass itself.
    """
    options, nested = _split_fields(config_class)
    given = {known.name: _value_of(known, values[known.flag].value) for known in options}
    given |= {name: config_from_flags(kind, values) for name, kind in nested.items()}
    return config_class(**given)


def _value_of(option: _Option, value: Any) -> Any:
    if value is None or not option.is_list:
        return value
    try:
        return tuple(option.kind(item) for item in value)
    except ValueError:
        raise InputError(
            f"{option.flag}: expected numbers separated by commas, got {','.join(value)!r}"
        ) from None


@dataclasses.dataclass(frozen=True)
class CommonOptions:
    """What every command has."""

    help: bool = option(False, "Print this help and stop.")
    compilation_cache: bool = option(True, "Keep compiled programs for later runs.")


@dataclasses.dataclass(frozen=True)
class VerboseOption:
    """What every command has that does not have more to say when it is verbose."""

    verbose: bool = option(False, "Show the traceback of an error that was not foreseen.")


def parse_options(options: flags.FlagValues, argv: Sequence[str], description: str) -> bool:
    """Set the options from the command line; on --help print it, and return False.

    Raises:
      InputError: for an argument that is no option.
      flags.Error: for an unknown option or a value of the wrong kind.
    """
    rest = options(argv)
    if len(rest) > 1:
        raise InputError(f"unexpected argument {rest[1]!r}; options start with --")
    if options.help:
        print(description)
        print(options.get_help())
        return False
    return True


def run_main(
    command: Callable[[Config], int],
    options_class: type[Config],
    argv: Sequence[str],
    description: str,
) -> int:
    """Run a command line; returns the exit status.

    That is the command's, or after one line on stderr BAD_INPUT, also for a file that cannot be
    read or written, or UNFORESEEN for any other error, whose traceback --verbose shows.

    Args:
      command: does the work; returns the exit status.
      options_class: frozen dataclass of `option` fields, which ``command`` takes.
      argv: name of the program and its arguments.
      description: printed by --help before the options.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # terminals that lack σ or …
    values = flags.FlagValues()
    define_flags(options_class, values)
    if "verbose" not in values:
        define_flags(VerboseOption, values)
    define_flags(CommonOptions, values)
    try:
        if not parse_options(values, argv, description):
            status = 0
        else:
            if not values.compilation_cache:
                jax.config.update("jax_enable_compilation_cache", False)
            status = command(config_from_flags(options_class, values))
        sys.stdout.flush()
    except BrokenPipeError:  # of `| head`, which has seen enough
        _give_up_stdout()
        return BAD_INPUT
    except (InputError, flags.Error, OSError) as error:
        print(f"error: {_said_of(error)}", file=sys.stderr)
        _give_up_stdout()
        return BAD_INPUT
    except Exception as error:
        if values["verbose"].value:
            traceback.print_exc()
        print(f"error: {_said_of(error)}", file=sys.stderr)
        return UNFORESEEN
    return status


def _said_of(error: Exception) -> str:
    """One line on an error."""
    text = " ".join(str(error).split())
    if isinstance(error, (InputError, flags.Error)):
        return text
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"cannot read or write {where}{error.strerror or text}"
    if isinstance(error, (MemoryError, OverflowError)) or any(part in text for part in TOO_LARGE):
        return f"too large for this machine ({text[:SHOWN]}); take fewer or smaller numbers"
    return f"unforeseen {type(error).__name__} ({text[:SHOWN]}); --verbose shows where"


def _give_up_stdout() -> None:
    """What could not be written to stdout is dropped, or Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def configure_jax(*, float64: bool, compilation_cache: bool = True) -> None:
    """JAX's settings for a process that runs a command, before its first computation.

    Products of matrices are exact to rounding on every device; a CPU counts as a device for each
    core unless XLA_FLAGS says otherwise; compiled programs are kept in `cache_folder`/jax, or
    where JAX_COMPILATION_CACHE_DIR says.

    Args:
      float64: whether arrays are float64 where nothing else is said.
      compilation_cache: False where compilation itself is timed.
    """
    jax.config.update("jax_enable_x64", float64)
    jax.config.update("jax_default_matmul_precision", "highest")
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    if not compilation_cache:
        jax.config.update("jax_enable_compilation_cache", False)
    elif not jax.config.jax_compilation_cache_dir:
        _keep_compiled_programs()
    # Modules stay: each collection of garbage would go through all that JAX has loaded.
    gc.freeze()


def _keep_compiled_programs() -> None:
    """Use the persistent compilation cache where its folder can be written; else go without."""
    try:
        folder = cache_folder() / "jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no home
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # An entry that another process is just writing, or that a kill cut short, is compiled again.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    if jax.config.jax_logging_level == "NOTSET":
        # On some processors XLA calls each program that it reads unfit for the machine on which it
        # was written, and runs it (github.com/jax-ml/jax/issues/38445). The first line quiets XLA,
        # the second lets JAX's own warnings through again.
        jax.config.update("jax_logging_level", "CRITICAL")
        jax.config.update("jax_logging_level", "NOTSET")


class _Rate(ProgressColumn):
    """Steps per second."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        super().__init__()

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g} {self._unit}")


class ProgressBar:
    """A bar on stderr, if that is a terminal, once something has taken two seconds.

    To be used under `contextlib.closing`.

    Args:
      rate: unit in which the speed is shown, such as 'cells/s'; default not at all.
      after_s: seconds before the bar appears.
      console: default stderr.
    """

    def __init__(
        self, *, rate: str = "", after_s: float = 2.0, console: Console | None = None
    ) -> None:
        self._rate, self._after_s = rate, after_s
        self._console = Console(stderr=True) if console is None else console
        self._start = time.monotonic()
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: float, total: float, note: str = "") -> None:
        """Show that ``done`` of ``total`` steps of ``what`` are done."""
        if self._bar is None:
            if time.monotonic() - self._start < self._after_s or not self._console.is_terminal:
                return
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                *([_Rate(self._rate)] if self._rate else []),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.start()
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        text = f"{what} {note}".rstrip()
        self._bar.update(self._tasks[what], completed=done, total=total, description=text)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
