"""The images of Fashion-MNIST that come with the package: ``python -m dae_theory.deep.subset
--out=FILE.npz``.

Claims about the shipped models need few images: those that the models store, what is nearest to
these (a copy is known by its second nearest image), and the first ones of both splits. They are
shrunk to the models' size, as sums of four bytes, which loses nothing. Needs all of Fashion-MNIST.
Prints the SHA-256 that `images.SHIPPED_SHA256` must be. Exit status 0, or 2 on bad input.
"""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from dae_theory.checks import InputError
from dae_theory.commands import configure_jax, option, run_main
from dae_theory.deep.captions import tones
from dae_theory.deep.checkpoints import SHIPPED, load_checkpoint
from dae_theory.deep.images import (
    SHIPPED_SIZE,
    drawn_indices,
    shrunk_fashion_mnist,
    summed_fashion_mnist,
)
from dae_theory.files import npz_bytes, write_whole

FIRST = {"train": 3000, "test": 1000}  # images of each split
NEIGHBOURS = 50  # of each stored image


@dataclass(frozen=True)
class Options:
    """The command's options."""

    out: str | None = option(None, "The file to write.")


def stored_indices() -> Int[np.ndarray, " K"]:
    """Which training images a shipped model stores."""
    models = [load_checkpoint(name) for name in SHIPPED]
    return np.unique(
        np.concatenate([drawn_indices(**c.config.drawn_as)[: c.stored] for c in models])
    )


def chosen_indices(split: str) -> Int[np.ndarray, " K"]:
    """Which images of a split come with the package."""
    first = np.arange(FIRST[split])
    if split == "test":
        return first
    images, _ = shrunk_fashion_mnist(split, SHIPPED_SIZE)
    rows, stored = images.reshape(len(images), -1), stored_indices()
    near = [np.argsort(np.linalg.norm(rows - rows[i], axis=1))[: NEIGHBOURS + 1] for i in stored]
    return np.unique(np.concatenate([first, *near]))


def subset_arrays() -> dict[str, np.ndarray]:
    """What the file holds; see `images.ShippedImages`."""
    arrays = {}
    for split in FIRST:
        chosen = chosen_indices(split)
        sums, labels = summed_fashion_mnist(split, SHIPPED_SIZE)
        tone = tones(*shrunk_fashion_mnist(split, SHIPPED_SIZE))
        arrays |= {
            f"{split}/index": chosen.astype(np.uint16),
            f"{split}/sums": sums[chosen].astype(np.uint16),
            f"{split}/labels": labels[chosen].astype(np.uint8),
            f"{split}/tones": tone[chosen].astype(np.uint8),
            f"{split}/first": np.array(FIRST[split], np.uint16),
        }
    return arrays


def make(options: Options) -> int:
    """Write the file, and print its hash."""
    if options.out is None:
        raise InputError("out: say where the images go, --out=FILE.npz")
    content = npz_bytes(subset_arrays())
    write_whole(Path(options.out), content)
    print(f"{options.out}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
    return 0


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(make, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
