"""What steering costs: ``python -m benchmarks.steering``

On shipped models, in CPU seconds of this process (all cores together): a batch of samples without
steering, and the same batch with one layer shifted by a share of its activation in every call. The
two take turns, so that whatever slows the machine slows both; the ratio is a median over rounds.
About a minute a model.
"""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dae_theory.checks import check_count
from dae_theory.commands import configure_jax, option, run_main
from dae_theory.deep.checkpoints import Checkpoint, load_checkpoint
from dae_theory.deep.sampling import BATCH, Sampler
from dae_theory.steer.model import Change
from dae_theory.steer.nets import of_checkpoint


@dataclass(frozen=True)
class Options:
    """What is timed."""

    checkpoint: tuple[str, ...] = option(("hybrid-unet", "hybrid-text-dit"), "Shipped models.")
    rounds: int = option(9, "Of the two programs, after one that compiles.")
    steps: int = option(6, "Of the sampler.")

    def __post_init__(self) -> None:
        for name in ("rounds", "steps"):
            check_count(getattr(self, name), name)


def cpu_seconds() -> float:
    """Of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def programs(checkpoint: Checkpoint, steps: int) -> dict[str, Callable[[], np.ndarray]]:
    """Samples of a batch, with and without steering."""
    model = of_checkpoint(checkpoint, Sampler(steps))
    start_ND = model.starts(0, BATCH)
    shift_NC = np.full((BATCH, model.layers[model.layer]), 0.01)
    change = Change({model.layer: shift_NC}, relative=True)
    return {
        "plain": lambda: model.sample(start_ND),
        "steered": lambda: model.sample(start_ND, None, change),
    }


def overhead(checkpoint: Checkpoint, rounds: int, steps: int) -> dict[str, float]:
    """CPU seconds of an unsteered batch, and the steered one's over it, medians over rounds."""
    timed = programs(checkpoint, steps)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for count in range(rounds + 1):
        for name in timed if count % 2 else reversed(timed):
            begin = cpu_seconds()
            timed[name]()
            if count:
                seconds[name].append(cpu_seconds() - begin)
    plain = np.array(seconds["plain"])
    ratio = np.median(np.array(seconds["steered"]) / plain)
    return {"plain_s": float(np.median(plain)), "ratio": float(ratio)}


def measure(options: Options) -> int:
    """Print one line a model."""
    print(f"| model | {BATCH} samples, CPU s | steered |\n|---|---|---|")
    for name in options.checkpoint:
        found = overhead(load_checkpoint(name), options.rounds, options.steps)
        print(f"| {name} | {found['plain_s']:.2f} | × {found['ratio']:.3f} |")
    return 0


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(measure, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=False, compilation_cache=False)
    sys.exit(main(sys.argv))
