"""What float32 costs: one cell of a sweep beside a float64 solution of the same problem."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dae_theory.checks import InputError
from dae_theory.diffusion.denoisers import mixture_denoiser
from dae_theory.relu.optimize import Level
from dae_theory.relu.train import train
from dae_theory.solve.local import solve_local_minimum
from dae_theory.solve.newton import Solution
from dae_theory.sweep.measure import Blocks, Problem, cluster_blocks, measure_net
from dae_theory.sweep.plan import (
    Cell,
    Source,
    SweepConfig,
    grid_cells,
    load_source,
    train_config,
    training_samples,
)

# Measures without random numbers, which float32 and float64 draw differently.
COMPARED = (
    "exact_loss",
    "train_mse",
    "test_mse",
    "live_units",
    "gain_min",
    "gain_mean",
    "stored_operator_error",
    "block_operator_error",
)


class PrecisionReport(NamedTuple):
    """One cell, three times, by measure (COMPARED): ``swept``, the float32 weights in float32
    arithmetic; ``evaluated``, the same weights in float64; ``solved``, the float64 stationary point
    reached from them. ``operator_error`` is ‖W2W1ᵀ − W2'W1'ᵀ‖ between the last two, relative."""

    cell: Cell
    swept: dict[str, float]
    evaluated: dict[str, float]
    solved: dict[str, float]
    operator_error: float
    solution: Solution


def precision_report(config: SweepConfig, index: int = 0, tol: float = 1e-9) -> PrecisionReport:
    """Train a cell in float32 as a sweep does, and solve from there in float64 to ‖∇L‖ ≤ ``tol``.

    Raises:
      InputError: for unusable data, an index outside the grid, or training that diverges.
    """
    cells = grid_cells(config)
    if not 0 <= index < len(cells):
        raise InputError(f"index: the grid has cells 0 ... {len(cells) - 1}, got {index}")
    cell, source = cells[index], load_source(config)
    x_ND, labels_N = training_samples(source, cell.seed, cell.n)
    with jax.enable_x64(False), jax.default_matmul_precision("highest"):
        settings = train_config(config, cell.p, cell.sigma, cell.lam)
        result = train(jax.random.key(cell.seed), x_ND, settings)
        swept = _measures(result.w1, result.w2, x_ND, labels_N, cell, source)
    weights = tuple(np.asarray(w, np.float64) for w in (result.w1, result.w2))
    solution = solve_local_minimum(*weights, x_ND, cell.sigma, cell.lam, tol)
    with jax.enable_x64(True):
        evaluated = _measures(*weights, x_ND, labels_N, cell, source)
        solved = _measures(solution.w1, solution.w2, x_ND, labels_N, cell, source)
    before, after = weights[1] @ weights[0].T, solution.w2 @ solution.w1.T
    operator_error = float(np.linalg.norm(before - after) / np.linalg.norm(after))
    return PrecisionReport(cell, swept, evaluated, solved, operator_error, solution)


def _measures(w1_DP, w2_DP, x_ND, labels_N, cell: Cell, source: Source) -> dict[str, float]:
    """COMPARED in the dtype of the weights."""
    dtype = w1_DP.dtype
    mixture, truth, blocks = source.mixture, None, None
    if mixture is not None:
        arrays = (mixture.means, mixture.covs, mixture.priors)
        truth = mixture_denoiser(*(jnp.asarray(a, dtype) for a in arrays))
        found = cluster_blocks(x_ND, labels_N, len(mixture.priors), cell.n)
        blocks = Blocks(*(jnp.asarray(a, dtype) for a in found))
    level = Level(jnp.asarray(cell.sigma, dtype), jnp.asarray(cell.lam, dtype))
    weight_N = jnp.full(cell.n, 1 / cell.n, dtype)
    problem = Problem(jnp.asarray(x_ND, dtype), weight_N, level, blocks)
    held_out_TD = jnp.asarray(source.held_out, dtype)

    @jax.jit
    def measure(w1_DP, w2_DP, problem, held_out_TD):
        key = jax.random.key(cell.seed)
        width = jnp.asarray(cell.p)
        return measure_net(key, w1_DP, w2_DP, width, problem, held_out_TD, truth)

    measures = measure(jnp.asarray(w1_DP), jnp.asarray(w2_DP), problem, held_out_TD)
    return {name: float(measures[name]) for name in COMPARED}


def precision_lines(report: PrecisionReport) -> list[str]:
    """The report as text."""
    cell, solution = report.cell, report.solution
    lines = [
        f"cell {cell.index}: " + ", ".join(f"{k}={v}" for k, v in cell._asdict().items()),
        f"{'measure':22}{'float32':>13}{'float64':>13}{'difference':>12}{'solved':>13}"
        f"{'difference':>12}",
    ]
    for name in COMPARED:
        swept, evaluated, solved = (
            values[name] for values in (report.swept, report.evaluated, report.solved)
        )
        lines.append(
            f"{name:22}{swept:13.7g}{evaluated:13.7g}{swept - evaluated:12.1e}{solved:13.7g}"
            f"{evaluated - solved:12.1e}"
        )
    state = "converged" if solution.converged else "not converged"
    lines.append(
        f"operators differ by {report.operator_error:.2e}; solver: {solution.iterations} "
        f"iterations to a gradient of {solution.grad_norm:.1e}, {state}"
    )
    return lines
