"""What detection costs: ``python -m benchmarks.detection``

On a shipped model, in CPU seconds of this process (all cores together), which other programs on the
machine change little: a forward pass of a batch; the same with one layer's pooled activation handed
out as well, the tap; that activation alone, which is what the paper's score runs and which needs no
layer after it; and the paper's score of --images images from the library. The first three take
turns, so that whatever slows the machine slows all of them; ratios are medians over rounds. About a
minute a model.
"""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from dae_theory.checks import check_count
from dae_theory.commands import configure_jax, option, run_main
from dae_theory.deep.activations import pooled_layer
from dae_theory.deep.captions import tokenize
from dae_theory.deep.checkpoints import Checkpoint, load_checkpoint
from dae_theory.deep.layers import ACTIVATIONS
from dae_theory.deep.network import denoise_images, make_network
from dae_theory.detect.model import BATCH, of_checkpoint
from dae_theory.detect.run import detect_memorized


@dataclass(frozen=True)
class Options:
    """What is timed."""

    checkpoint: tuple[str, ...] = option(("hybrid-unet", "hybrid-text-dit"), "Shipped models.")
    images: int = option(1000, "Images whose score is timed.")
    rounds: int = option(15, "Of the three programs, after one that compiles.")
    calls: int = option(4, "Of each program in a round.")

    def __post_init__(self) -> None:
        for name in ("images", "rounds", "calls"):
            check_count(getattr(self, name), name)


def cpu_seconds() -> float:
    """Of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def programs(checkpoint: Checkpoint, batch: int = BATCH) -> dict[str, Callable[[], object]]:
    """The three programs on one batch, compiled."""
    network, params = checkpoint.config.network, checkpoint.params
    model = of_checkpoint(checkpoint)
    rng, tokens = np.random.default_rng(0), None
    y_BD = rng.standard_normal((batch, model.size)).astype(np.float32)
    if network.text:
        tokens = np.broadcast_to(tokenize([""]), (batch, tokenize([""]).shape[1]))
    images, sigma_B = y_BD.reshape(batch, *model.image_shape, 1), np.full(batch, np.float32(0.1))

    def forward(params, images):
        variables = {"params": params}
        return denoise_images(make_network(network), variables, images, sigma_B, tokens)

    def tapped(params, images):
        variables, taps = {"params": params}, [ACTIVATIONS]
        out, seen = denoise_images(
            make_network(network), variables, images, sigma_B, tokens, mutable=taps
        )
        room, name = model.layer.split("/")
        value = seen[ACTIVATIONS][room][name]
        return out, value.reshape(batch, -1, value.shape[-1]).max(axis=1)

    def layer(params, images):
        rows = images.reshape(batch, -1)
        return pooled_layer(network, params, rows, sigma_B[0], tokens, model.layer, "max")

    compiled = {}
    for name, program in (("forward", forward), ("tapped", tapped), ("layer", layer)):
        run = jax.jit(program).lower(params, images).compile()
        compiled[name] = lambda run=run: jax.block_until_ready(run(params, images))
    return compiled


def ratios(checkpoint: Checkpoint, rounds: int, calls: int) -> dict[str, float]:
    """Milliseconds of a forward pass of a batch; the others' time over it, medians of rounds."""
    timed = programs(checkpoint)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for count in range(rounds + 1):
        order = list(timed) if count % 2 else list(reversed(timed))
        for name in order:
            begin = cpu_seconds()
            for _ in range(calls):
                timed[name]()
            if count:
                seconds[name].append((cpu_seconds() - begin) / calls)
    forward = np.array(seconds["forward"])
    return {"forward_ms": 1e3 * float(np.median(forward))} | {
        name: float(np.median(np.array(seconds[name]) / forward)) for name in ("tapped", "layer")
    }


def score_seconds(checkpoint: Checkpoint, images: int) -> float:
    """CPU seconds of `detect_memorized` with its defaults, compilation included."""
    size = checkpoint.config.network.size
    x_ND = np.random.default_rng(0).uniform(-1, 1, (images, size**2))
    begin = cpu_seconds()
    detect_memorized(checkpoint, x_ND)
    return cpu_seconds() - begin


def measure(options: Options) -> int:
    """Print one line a model."""
    print(
        f"| model | forward pass of {BATCH}, CPU ms | with tap | layer alone | "
        f"std of {options.images}, CPU s |"
    )
    print("|---|---|---|---|---|")
    for name in options.checkpoint:
        checkpoint = load_checkpoint(name)
        found = ratios(checkpoint, options.rounds, options.calls)
        seconds = score_seconds(checkpoint, options.images)
        print(
            f"| {name} | {found['forward_ms']:.1f} | × {found['tapped']:.3f} | "
            f"× {found['layer']:.3f} | {seconds:.1f} |"
        )
    return 0


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(measure, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=False, compilation_cache=False)
    sys.exit(main(sys.argv))
