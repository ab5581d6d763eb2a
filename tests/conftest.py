"""Two CPU devices and float64 for all tests; `run_python` runs code in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

TWO_DEVICES = "--xla_force_host_platform_device_count=2"
os.environ["XLA_FLAGS"] = TWO_DEVICES

import jax  # noqa: E402
import pytest  # noqa: E402

from dae_theory.data.images import (  # noqa: E402
    FASHION_MNIST_FILES,
    FASHION_MNIST_FOLDER,
    cache_folder,
)

jax.config.update("jax_enable_x64", True)

ROOT = Path(__file__).resolve().parents[1]
needs_images = pytest.mark.skipif(
    not any(
        (f / FASHION_MNIST_FILES["train"]).is_file() for f in (FASHION_MNIST_FOLDER, cache_folder())
    ),
    reason="Fashion-MNIST is not on this machine",
)


@pytest.fixture
def run_python():
    """Function that runs source code in a new interpreter and returns what it printed."""

    def run(code: str, devices: int = 2) -> str:
        flags = f"--xla_force_host_platform_device_count={devices}"
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
