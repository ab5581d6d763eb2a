"""What the machine can do: the speed of a float32 matrix product, memory used, the load."""

import os
import platform
import resource
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

MATMUL_SIZE = 2048
REPEATS = 10


def matmul_gflops(size: int = MATMUL_SIZE) -> float:
    """GFLOP/s of the fastest of `REPEATS` float32 products of two ``size``² matrices in XLA."""
    a = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    times = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        jax.block_until_ready(product(a))
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / min(times[1:]) / 1e9


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, in MiB.

    On Linux from /proc: there getrusage starts at the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def load_average() -> float:
    """Processes that wanted to run over the last minute; 0 when idle."""
    return os.getloadavg()[0]


def describe() -> dict:
    """Platform, versions and cores."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "cores": os.cpu_count(),
    }
