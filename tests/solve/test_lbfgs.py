"""Why L-BFGS is written here: beside `optax.lbfgs` it takes no more evaluations of the objective on
the memorizing and the generalizing problem, and its program holds the objective once, where
optax's holds it at least three times and takes as many times longer to compile."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dae_theory.data import separable_mixture, simplex
from dae_theory.relu.model import init_weights
from dae_theory.solve.derivatives import stacked_loss
from dae_theory.solve.lbfgs import lbfgs

MEMORY = 20  # pairs that both keep
ITERATIONS = 300


def problem_of(x_ND, sigma, lam, width, seed):
    """A random start and the arguments of the objective behind the weights."""
    start = jnp.stack(init_weights(jax.random.key(seed), x_ND.shape[1], width)).astype(float)
    return start, (x_ND, np.full(len(x_ND), 1 / len(x_ND)), sigma, lam)


def memorizing(seed):
    return problem_of(simplex(4, 16).x, 0.05, 0.005, 8, seed)


def generalizing(seed):
    mixture = separable_mixture(3, 12, rank=3, beta=-0.5, alpha=0.2)
    return problem_of(mixture.sample(0, 60)[0], 0.1, 1e-3, 12, seed)


@functools.partial(jax.jit, static_argnums=(2, 3))
def optax_lbfgs(weights, arguments, tol, max_iterations):
    """Weights, loss, ‖∇L‖, and evaluations of the objective by `optax.lbfgs`."""

    def objective(at):
        return stacked_loss(at, *arguments)

    solver = optax.lbfgs(memory_size=MEMORY)
    value_and_grad = optax.value_and_grad_from_state(objective)

    def step(carry):
        at, state, evaluations, iterations = carry
        loss, gradient = value_and_grad(at, state=state)
        updates, state = solver.update(
            gradient, state, at, value=loss, grad=gradient, value_fn=objective
        )
        trials = optax.tree.get(state, "info").num_linesearch_steps
        return optax.apply_updates(at, updates), state, evaluations + trials, iterations + 1

    def unfinished(carry):
        _, state, _, iterations = carry
        norm = jnp.linalg.norm(optax.tree.get(state, "grad"))
        return (iterations == 0) | ((iterations < max_iterations) & (norm > tol))

    start = (weights, solver.init(weights), jnp.asarray(1), jnp.asarray(0))
    at, _, evaluations, _ = jax.lax.while_loop(unfinished, step, start)
    loss, gradient = jax.value_and_grad(objective)(at)
    return at, loss, jnp.linalg.norm(gradient), evaluations


def test_memorizing_minimum_takes_no_more_evaluations():
    ours, theirs = 0, 0
    for seed in range(4):
        start, arguments = memorizing(seed)
        found = lbfgs(stacked_loss, start, arguments, 1e-9, ITERATIONS)
        _, loss, grad_norm, evaluations = optax_lbfgs(start, arguments, 1e-9, ITERATIONS)
        assert max(float(found.grad_norm), float(grad_norm)) <= 1e-9
        assert float(found.loss) == pytest.approx(float(loss), abs=1e-12)
        ours, theirs = ours + int(found.evaluations), theirs + int(evaluations)
    assert ours <= 1.1 * theirs


@pytest.mark.slow  # thousands of evaluations of either
def test_generalizing_problem_is_solved_as_well_with_as_many_evaluations():
    ours, theirs = [], []
    for seed in range(2):
        start, arguments = generalizing(seed)
        found = lbfgs(stacked_loss, start, arguments, 1e-9, ITERATIONS)
        _, loss, _, evaluations = optax_lbfgs(start, arguments, 1e-9, ITERATIONS)
        ours.append((float(found.loss), int(found.evaluations)))
        theirs.append((float(loss), int(evaluations)))
    (our_loss, our_evaluations), (loss, evaluations) = np.mean(ours, 0), np.mean(theirs, 0)
    assert our_loss <= 1.01 * loss
    assert our_evaluations <= 1.1 * evaluations


def copies_of_objective(jaxpr) -> int:
    """How often a program, with all its branches and loops, computes normal densities of margins,
    in units of one evaluation of the objective with its gradient."""
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name in ("erf", "erfc")
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, tuple | list) else (parameter,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    count += copies_of_objective(inner)
    return count


def test_program_holds_the_objective_once():
    start, arguments = memorizing(0)

    def ours(at):
        return lbfgs(stacked_loss, at, arguments, 1e-9, ITERATIONS).weights

    def theirs(at):
        return optax_lbfgs(at, arguments, 1e-9, ITERATIONS)[0]

    def once(at):
        return jax.value_and_grad(stacked_loss)(at, *arguments)

    one, in_ours, in_theirs = (
        copies_of_objective(jax.make_jaxpr(program)(start).jaxpr)
        for program in (once, ours, theirs)
    )
    assert in_ours == one
    assert in_theirs >= 3 * one
