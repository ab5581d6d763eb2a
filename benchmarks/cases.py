"""One contender on one recipe, measured in a process of its own.

``python -m benchmarks.cases SPEC.json`` is what `benchmarks.run` starts: the specification names
the case, the recipe, how many steps to time, and the files to read and write.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from benchmarks import machine
from benchmarks.recipes import Recipe
from dae_theory.files import read_settings, write_settings
from dae_theory.relu.mehler import mehler_loss
from dae_theory.relu.optimize import TrainConfig
from dae_theory.relu.train import train_many
from dae_theory.solve.large import Stage, solve_large
from dae_theory.solve.local import solve_local_minimum
from dae_theory.theory.closed_forms import predict_memorization
from dae_theory.weights.compare import compare_weights

THREADS = 2
CONTENDERS = ("torch", "sgd", "sweep", "evaluation", "solver", "stationary")
EVALUATION_TERMS, EVALUATIONS = 4, 20
SWEEP_COUNTS = 4  # sample counts of a sweep: the recipe's n and smaller ones
RECORDS = 5  # the first one holds the compilation
TRUNCATION = 1e-9  # of the final losses, relative
STATIONARY = 1e-4  # ‖∇L‖ of the stationary point, in units of the loss
# Down to the loss that stochastic gradients end at, not to the minimum.
SOLVER_STAGES = (
    Stage(2000, 256, "float32", 75, mixing=True),
    Stage(None, 256, "float32", 50),
    Stage(None, None, "float32", 50),
)


def exact_training_loss(w_DP: Float[np.ndarray, "D P"], x_ND, recipe: Recipe) -> float:
    """Objective (1) of a tied net without noise sampling, in float64, to `TRUNCATION`."""
    every = recipe.width * (recipe.width - 1) // 2
    evaluate = jax.jit(mehler_loss, static_argnames=("terms", "exact_pairs"))
    with jax.enable_x64(True):
        w_DP = np.asarray(w_DP, float)
        for pairs in (recipe.width, every):
            loss, bound = evaluate(
                w_DP, w_DP, x_ND, recipe.sigma, recipe.lam, terms=12, exact_pairs=pairs
            )
            if bound <= TRUNCATION * loss:
                break
        return float(loss)


def judge(w_DP, x_ND, recipe: Recipe) -> dict:
    """Final loss; for memorization also the largest gain error, relative to the largest
    gain, against the exact minimizer reached from these weights, and the relative one against (5).
    """
    result = {"exact_loss": exact_training_loss(w_DP, x_ND, recipe)}
    if recipe.name == "memorization":
        w_DP = np.asarray(w_DP, float)
        sigma, lam = recipe.sigma, recipe.lam
        prediction = predict_memorization(x_ND, sigma, lam, width=recipe.width)
        minimum = solve_local_minimum(w_DP, w_DP, x_ND, sigma, lam, 1e-8)
        found = compare_weights(w_DP, w_DP, prediction, x_ND)
        there = compare_weights(minimum.w1, minimum.w2, prediction, x_ND)
        gains, minimal = np.concatenate(found.gains), np.concatenate(there.gains)
        result |= {
            "gain_error": float(np.max(np.abs(gains - minimal)) / np.max(minimal)),
            "gain_error_to_closed_form": float(np.max(found.gain_errors)),
            "minimum_loss": minimum.loss,
            "minimum_grad_norm": minimum.grad_norm,
        }
    return result


def run_torch(recipe: Recipe, x_ND, steps: int, seeds: int) -> dict:
    """The plain loop, one seed."""
    from benchmarks import torch_peer

    result = torch_peer.train_tied(
        x_ND,
        recipe.start(0),
        sigma=recipe.sigma,
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        batch_size=recipe.batch_size,
        steps=steps,
        seed=0,
        threads=THREADS,
    )
    warm = (result.seconds - result.first_seconds) * steps / max(steps - 1, 1)
    return _of_steps(recipe, steps, 1, result.seconds, warm) | {"w": result.w}


def train_config(recipe: Recipe, steps: int) -> TrainConfig:
    """The recipe in our terms."""
    return TrainConfig(
        recipe.width,
        recipe.sigma,
        recipe.lam,
        steps=steps,
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        schedule="constant",
        batch_size=recipe.batch_size,
        tied=True,
        records=RECORDS,
    )


def _train(recipe: Recipe, data_sets, steps: int, seeds: int) -> tuple[dict, np.ndarray]:
    """Cold and warm seconds of one call of `train_many`, and its weights (E, S, D, P)."""
    ticks = [time.perf_counter()]
    keys = jax.random.split(jax.random.key(0), seeds)
    result = train_many(
        keys,
        data_sets,
        train_config(recipe, steps),
        progress=lambda _: ticks.append(time.perf_counter()),
    )
    cold = ticks[-1] - ticks[0]
    warm = (ticks[-1] - ticks[1]) * (len(ticks) - 1) / (len(ticks) - 2)
    timing = _of_steps(recipe, steps, seeds * len(data_sets), cold, warm)
    return timing, np.asarray(result.w1)


def run_sgd(recipe: Recipe, x_ND, steps: int, seeds: int) -> dict:
    """Our training, one seed."""
    timing, w_ESDP = _train(recipe, [x_ND], steps, 1)
    return timing | {"w": w_ESDP[0, 0]}


def run_sweep(recipe: Recipe, x_ND, steps: int, seeds: int) -> dict:
    """Our training, all seeds and sample counts in one call."""
    jax.config.update("jax_num_cpu_devices", THREADS)
    if recipe.batch_size is None:
        counts = range(max(1, recipe.n - SWEEP_COUNTS + 1), recipe.n + 1)
    else:
        counts = [recipe.n // 2**k for k in reversed(range(SWEEP_COUNTS))]
    timing, _ = _train(recipe, [x_ND[:count] for count in counts], steps, seeds)
    return timing | {"sample_counts": list(counts), "seeds": seeds}


def _of_steps(recipe: Recipe, steps: int, nets: int, cold: float, warm: float) -> dict:
    """Timings, of all the recipe's steps when fewer were run, and efficiency."""
    share = recipe.steps / steps
    per_step = warm / steps / nets
    return {
        "steps": steps,
        "nets": nets,
        "cold_seconds": cold + (share - 1) * warm,
        "warm_seconds": share * warm,
        "extrapolated": steps < recipe.steps,
        "milliseconds_per_net_step": 1e3 * per_step,
        "gflops": recipe.flops_per_step / per_step / 1e9,
    }


def run_evaluation(recipe: Recipe, x_ND, steps: int, seeds: int) -> dict:
    """One loss with gradient on all samples in float32, what a step of the solver consists of."""
    terms, d, p = EVALUATION_TERMS, recipe.n_features, recipe.width

    def loss(w_DP, x_ND):
        return mehler_loss(w_DP, w_DP, x_ND, recipe.sigma, recipe.lam, terms=terms).loss

    evaluate = jax.jit(jax.value_and_grad(loss))
    w_DP, x_ND = (jax.device_put(a.astype(np.float32)) for a in (recipe.start(0), x_ND))
    seconds = []
    for _ in range(EVALUATIONS + 1):
        begin = time.perf_counter()
        jax.block_until_ready(evaluate(w_DP, x_ND))
        seconds.append(time.perf_counter() - begin)
    # Into z and y and back, then two products of N P² a term.
    flops = 8 * recipe.n * d * p + 4 * (terms + 1) * recipe.n * p**2
    warm = float(np.median(seconds[1:]))
    return {
        "cold_seconds": seconds[0],
        "warm_seconds": warm,
        "fastest_seconds": min(seconds[1:]),
        "gflops": flops / warm / 1e9,
    }


def run_solver(recipe: Recipe, x_ND, steps: int, seeds: int) -> dict:
    """Our solver: to the minimum for memorization, down `SOLVER_STAGES` for generalization."""
    stages = SOLVER_STAGES if recipe.name == "generalization" else None
    return _solve(recipe, x_ND, seeds, 1e-6, stages)


def run_stationary(recipe: Recipe, x_ND, steps: int, seeds: int) -> dict:
    """Our solver, to a stationary point; cold only."""
    return _solve(recipe, x_ND, 1, STATIONARY, None)


def _solve(recipe: Recipe, x_ND, seeds: int, tol: float, stages) -> dict:
    """Cold from seed 0, then warm from other random starts (one, for long runs)."""
    seconds, solutions = [], []
    for seed in range(min(seeds, 4)):
        w_DP = recipe.start(seed)
        begin = time.perf_counter()
        solutions.append(
            solve_large(w_DP, w_DP, x_ND, recipe.sigma, recipe.lam, tol, tied=True, stages=stages)
        )
        seconds.append(time.perf_counter() - begin)
    first = solutions[0]
    fields = ("loss", "grad_norm", "error_bound", "terms", "exact_pairs", "evaluations")
    return {name: getattr(first, name) for name in fields} | {
        "converged": first.converged,
        "cold_seconds": seconds[0],
        "warm_seconds": float(np.median(seconds[1:])) if seconds[1:] else seconds[0],
        "losses": [solution.loss for solution in solutions],
        "w": first.w1,
    }


RUNNERS: dict[str, Callable] = {
    "torch": run_torch,
    "sgd": run_sgd,
    "sweep": run_sweep,
    "evaluation": run_evaluation,
    "solver": run_solver,
    "stationary": run_stationary,
}


def main(path: Path) -> None:
    """Run the case of a specification and write its result."""
    spec = read_settings(path)
    recipe = Recipe(**spec["recipe"])
    x_ND = np.load(spec["data"])
    imported = machine.peak_memory_mib()
    result = RUNNERS[spec["contender"]](recipe, x_ND, spec["steps"], spec["seeds"])
    # Before the final loss and the matrix products, which need memory of their own.
    result |= {"peak_memory_mib": machine.peak_memory_mib(), "imports_mib": imported}
    result |= {"load_average": machine.load_average(), "matmul_gflops": machine.matmul_gflops()}
    w_DP = result.pop("w", None)
    if w_DP is not None:
        result |= judge(w_DP, x_ND, recipe)
    write_settings(Path(spec["result"]), result)


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)  # cold runs compile
    main(Path(sys.argv[1]))
