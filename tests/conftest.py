"""Two CPU devices and float64 for all tests.

`run_python` runs code in a fresh interpreter. The tests of a file run in one process, so that they
share fixtures, unless a test names another group.
"""

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

# XLA's older way to make code for a CPU takes half the time, and its first level of optimization
# less again; the code is up to twice as slow. In one part, not one for each of many threads, it
# takes less time of the cores together.
QUICK_TO_COMPILE = (
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
    " --xla_cpu_parallel_codegen_split_count=1"
)
TWO_DEVICES = "--xla_force_host_platform_device_count=2"
os.environ["XLA_FLAGS"] = f"{QUICK_TO_COMPILE} {TWO_DEVICES}"
# Workers and processes of tests keep the memory that they free: to ask for it anew each time takes
# a quarter of what the system does for them.
for setting in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
    os.environ.setdefault(setting, str(2**32))
# Threads of NumPy's wait for each other in a busy loop, and the cores are taken by pytest-xdist's
# workers, whose NumPy reads this when they start.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import jax  # noqa: E402
import pytest  # noqa: E402

from dae_theory import commands  # noqa: E402
from dae_theory.checks import InputError  # noqa: E402
from dae_theory.data import NAMES  # noqa: E402
from dae_theory.data.images import FASHION_MNIST_FILES, FASHION_MNIST_FOLDER  # noqa: E402
from dae_theory.deep import sampling  # noqa: E402
from dae_theory.diffusion import multi_sigma  # noqa: E402
from dae_theory.files import cache_folder  # noqa: E402
from dae_theory.relu import batch  # noqa: E402
from dae_theory.solve import derivatives, lbfgs, local  # noqa: E402
from proofs_checks.certify import census_starts  # noqa: E402
from proofs_checks.diffusion import relu_denoisers  # noqa: E402

commands.configure_jax(float64=True)
jax.config.update("jax_traceback_in_locations_limit", 0)  # lines of Python in every program

# Programs that compile faster than they are written to the cache and read are not kept there.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)

ROOT = Path(__file__).resolve().parents[1]
# XLA crashes near the kernel's limit of 65,530 memory maps of a process.
MEMORY_MAPS, MANY_MAPS = Path("/proc/self/maps"), 8_000
# Tests, by folder or file, in which even LONG programs run for less time than XLA optimizes them.
UNOPTIMIZED = {
    *(ROOT / "tests" / f"test_{part}.py" for part in ("extending", "notebook")),
    *(ROOT / "tests" / room for room in ("deep", "detect", "diffusion", "minima", "relu")),
    *(ROOT / "tests" / room for room in ("solve", "steer", "sweep", "theory")),
    *(ROOT / "tests" / "proofs_checks" / regime for regime in ("errata", "generalize")),
    *(ROOT / "tests" / "proofs_checks" / part for part in ("hybrid", "memorize", "test_run.py")),
    *(
        ROOT / "tests" / "proofs_checks" / "certify" / f"test_{part}.py"
        for part in ("certified_data", "dead_unit_claims", "descent", "pair", "rotations")
    ),
}
# Training and descents: in other tests only these are worth optimizing.
LONG = (
    (batch, "advance_nets"),
    (lbfgs, "lbfgs"),
    (lbfgs, "lbfgs_many"),
    (derivatives, "expansion"),
    (derivatives, "hessian_product"),
    (multi_sigma, "_run"),
    (sampling, "sample_batch"),
    (census_starts, "descend"),
    (relu_denoisers, "_samples"),
)
# In this group one program of L-BFGS runs so often that XLA's newer way to make code pays off.
MANY_STEPS = "detect-default-relu"
lbfgs_for_many_steps = jax.jit(
    lbfgs.lbfgs.__wrapped__,
    static_argnums=0,
    compiler_options={"xla_cpu_use_fusion_emitters": True},
)
needs_images = pytest.mark.skipif(
    not any(
        (f / FASHION_MNIST_FILES["train"]).is_file() for f in (FASHION_MNIST_FOLDER, cache_folder())
    ),
    reason="Fashion-MNIST is not on this machine",
)


class Optimized:
    """A function of LONG, whose programs are optimized; ``never`` in a test of UNOPTIMIZED."""

    never = False

    def __init__(self, function):
        self.function = function

    def __call__(self, *args, **kwargs):
        jax.config.update("jax_disable_most_optimizations", Optimized.never)
        try:
            return self.function(*args, **kwargs)
        finally:
            jax.config.update("jax_disable_most_optimizations", True)

    def __getattr__(self, name):
        return getattr(self.function, name)


for module, name in LONG:
    plain = getattr(module, name)
    for user in [m for m in sys.modules.values() if vars(m).get(name) is plain]:
        setattr(user, name, Optimized(plain))


@pytest.fixture(autouse=True)
def messages_name_options(monkeypatch):
    """Whatever a command says is wrong, in any test, it names options that it has."""
    define, say, known = commands.define_flags, commands._said_of, {}

    def defined(options_class, values):
        if known.get("values") is not values:  # else options of a field, or of every command
            known.update(values=values, command=options_class.__module__)
        define(options_class, values)

    def said(error):
        text = say(error)
        if isinstance(error, InputError) and not known["command"].startswith("test_"):
            values = known["values"]
            # What is said of a data set begins with its name, of a folder with its path.
            options = {*values, *NAMES, *(str(values[name].value) for name in values)}
            options |= {"W1", "W2", "X"} if "weights" in values else set()  # keys of its file
            unknown = {n for n in names_in(text) if not options & {n, n.removeprefix("no")}}
            assert not unknown, f"{known['command']} has no option {unknown}: {text}"
        return text

    monkeypatch.setattr(commands, "define_flags", defined)
    monkeypatch.setattr(commands, "_said_of", said)


def names_in(message: str) -> set[str]:
    """Names that a message gives as those of options: in front, as --NAME, or as NAME=value.

    What is quoted is the user's, and what is said of a file follows its path.
    """
    message = re.sub(r"'[^']*'", "", message)
    subject = re.match(r"([A-Za-z]\w*(?:, \w+)*): ", message)
    named = set(subject[1].split(", ")) if subject else set()
    named |= set(re.findall(r"--(\w+)", message))
    without_commands = re.sub(r"python -m .*", "", message)
    named |= set(re.findall(r"(?<![\w'/])([a-z_]\w*)=", without_commands))
    return named


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Group the tests of a file for pytest-xdist's --dist=loadgroup."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish():
    """Look for garbage seldom, and not among modules and tests, which stay."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Compile in less time where compiling is most of the work, in processes of the test, too."""
    Optimized.never = not UNOPTIMIZED.isdisjoint((item.path, item.path.parent))
    many_steps = group_of(item) == MANY_STEPS
    local.lbfgs.function = lbfgs_for_many_steps if many_steps else lbfgs.lbfgs.function
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(Optimized.never))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Free the programs of earlier groups before there are too many of them."""
    last = nextitem is None or group_of(nextitem) != group_of(item)
    if last and (not MEMORY_MAPS.exists() or MEMORY_MAPS.read_bytes().count(b"\n") > MANY_MAPS):
        jax.clear_caches()


def group_of(item) -> str:
    """Tests of one group share a process, and so their fixtures and programs."""
    return item.get_closest_marker("xdist_group").args[0]


@pytest.fixture
def run_python():
    """Function that runs source code in a new interpreter and returns what it printed."""

    def run(code: str, devices: int = 2) -> str:
        flags = f"{QUICK_TO_COMPILE} --xla_force_host_platform_device_count={devices}"
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture
def without_fashion_mnist(monkeypatch, tmp_path):
    """A machine without Fashion-MNIST, and without a network."""
    monkeypatch.setattr("dae_theory.data.images.FASHION_MNIST_FOLDER", tmp_path)
    monkeypatch.setattr("dae_theory.data.images.FASHION_MNIST_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("DAE_THEORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def experiment_of():
    """`test_registry.experiment_of`: the quick experiment of a regime, on 'default' or other data.

    It is shared with the tests of all claims, so that nets are trained once. A test that uses one
    belongs to the group of the claims on that part, such as
    ``pytest.mark.xdist_group("diffusion-default-relu")``.
    """
    from test_registry import experiment_of

    return experiment_of


@pytest.fixture(scope="session")
def result_of():
    """`test_registry.result_of`: a claim's result on that experiment, shared in the same way."""
    from test_registry import result_of

    return result_of
