"""Measurements of samplers with exact denoisers: order of convergence, f_emp's samples."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dae_theory.denoisers import Denoiser, empirical_denoiser, gaussian_denoiser
from dae_theory.diffusion import geometric_schedule, sample_ode, start_noise
from dae_theory.memorization import COPY_RATIO, gap_ratio
from dae_theory.nearest import nearest_two
from proofs_checks.claims import log_log_slope

Sampler = Callable[[Denoiser, np.ndarray, np.ndarray], np.ndarray]

EIGENVALUES = np.array([4.0, 0.5, 0.05])
FLOW_FROM, FLOW_TO = 3.0, 0.1
FLOW_STEPS = np.array([24, 48, 96, 192])
DRAWS = 200
LAST_LEVELS = np.geomspace(0.05, 0.001, 4)  # relative to the samples' rms norm
DELTAS = np.geomspace(0.03, 0.001, 4)


def euler(denoiser: Denoiser, start_ND, sigmas_T):
    """`sample_ode` by Euler's method."""
    return sample_ode(denoiser, start_ND, sigmas_T, "euler")


def heun(denoiser: Denoiser, start_ND, sigmas_T):
    """`sample_ode` by Heun's method."""
    return sample_ode(denoiser, start_ND, sigmas_T, "heun")


@dataclass(frozen=True)
class ExactSampling:
    """Samplers under test and a denoiser that knows the training samples ``x`` (N, D)."""

    seeds: tuple[int, ...]
    x: Float[np.ndarray, "N D"]
    euler: Sampler = euler
    heun: Sampler = heun
    empirical: Callable[[np.ndarray], Denoiser] = empirical_denoiser

    @property
    def scale(self) -> float:
        """Root of the mean of ‖x‖²."""
        return float(np.sqrt(np.mean(np.sum(self.x**2, axis=1))))


def flow_errors(sampler: Sampler, seed: int) -> Float[np.ndarray, " T"]:
    """Largest error of the flow of a Gaussian for each number of steps.

    Along an eigenvector with eigenvalue e the flow multiplies by √((e + σ²)/(e + σ_0²)).
    """
    vectors = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    denoiser = gaussian_denoiser(np.zeros(3), (vectors * EIGENVALUES) @ vectors.T)
    start = np.asarray(start_noise(jax.random.key(seed), 20, 3, FLOW_FROM))
    factor = np.sqrt((EIGENVALUES + FLOW_TO**2) / (EIGENVALUES + FLOW_FROM**2))
    exact = (start @ vectors * factor) @ vectors.T
    errors = []
    for steps in FLOW_STEPS:
        sigmas = np.geomspace(FLOW_FROM, FLOW_TO, steps + 1)
        errors.append(np.max(np.abs(np.asarray(sampler(denoiser, start, sigmas)) - exact)))
    return np.array(errors)


def measure_order(method: str, order: int) -> Callable[[ExactSampling], dict]:
    """Exponent of the number of steps in the error of a sampler."""

    def measure(experiment: ExactSampling) -> dict:
        with jax.enable_x64(True):
            found = [flow_errors(getattr(experiment, method), seed) for seed in experiment.seeds]
        slopes = np.array([-log_log_slope(FLOW_STEPS, errors) for errors in found])
        return {
            "measured": float(np.mean(slopes)),
            "predicted": float(order),
            "errors": np.abs(slopes - order),
            "seeds": experiment.seeds,
            "note": f"flow of a Gaussian, {FLOW_STEPS[0]} to {FLOW_STEPS[-1]} steps; error "
            f"{np.mean([e[-1] for e in found]):.1e} at the last",
        }

    return measure


def draw(experiment: ExactSampling, denoiser: Denoiser, sigmas_T, seed: int) -> np.ndarray:
    """DRAWS samples by Heun's method from noise of the first level."""
    start = start_noise(jax.random.key(seed), DRAWS, experiment.x.shape[1], float(sigmas_T[0]))
    return np.asarray(jax.jit(lambda y: experiment.heun(denoiser, y, sigmas_T))(start))


def measure_copies(experiment: ExactSampling) -> dict:
    """Share of f_emp's samples that are copies, few steps or many."""
    with jax.enable_x64(True):
        denoiser, share_ST = experiment.empirical(experiment.x), []
        for seed in experiment.seeds:
            samples = [
                draw(
                    experiment,
                    denoiser,
                    geometric_schedule(2 * experiment.scale, 0.02 * experiment.scale, steps),
                    seed,
                )
                for steps in (6, 48)
            ]
            found = [gap_ratio(nearest_two(y, experiment.x).distances) for y in samples]
            share_ST.append([np.mean(ratio < COPY_RATIO) for ratio in found])
    share_ST = np.array(share_ST)
    return {
        "measured": float(np.mean(share_ST)),
        "predicted": 1.0,
        "errors": 1 - np.min(share_ST, axis=1),
        "seeds": experiment.seeds,
        "note": "by 6 and by 48 steps of Heun's method, the worse of the two",
    }


def _distance(y_ND: np.ndarray, x_ND: np.ndarray) -> float:
    return float(np.sqrt(np.mean(nearest_two(y_ND, x_ND).distances[:, 0] ** 2)))


def measure_last_level(experiment: ExactSampling) -> dict:
    """Exponent of the last noise level in the distance to the nearest training sample."""
    slopes = []
    with jax.enable_x64(True):
        denoiser = experiment.empirical(experiment.x)
        for seed in experiment.seeds:
            distances = [
                _distance(
                    draw(
                        experiment, denoiser, experiment.scale * np.geomspace(2.0, last, 48), seed
                    ),
                    experiment.x,
                )
                for last in LAST_LEVELS
            ]
            slopes.append(log_log_slope(LAST_LEVELS, np.array(distances)))
    return {
        "measured": float(np.mean(slopes)),
        "predicted": 1.0,
        "errors": np.abs(np.array(slopes) - 1),
        "seeds": experiment.seeds,
        "note": f"stopped at σ = {LAST_LEVELS[0]:g} .. {LAST_LEVELS[-1]:g} of the rms norm, rms "
        "distance",
    }


def perturbed(denoiser: Denoiser, size: float, seed: int) -> Denoiser:
    """A denoiser with an error of norm ``size`` in a direction that varies with y."""

    def wrong(y_ND, sigma):
        d = y_ND.shape[1]
        turn = jax.random.normal(jax.random.key(seed), (d, d)) / jnp.sqrt(d)
        field_ND = jnp.cos(y_ND @ turn)
        norm_N1 = jnp.linalg.norm(field_ND, axis=1, keepdims=True)
        return denoiser(y_ND, sigma) + size * field_ND / norm_N1

    return wrong


def measure_perturbed(experiment: ExactSampling) -> dict:
    """Distance to the nearest training sample over the denoiser's error δ."""
    rows, slopes = [], []
    with jax.enable_x64(True):
        denoiser = experiment.empirical(experiment.x)
        sigmas_T = geometric_schedule(2 * experiment.scale, 0.002 * experiment.scale, 48)
        for seed in experiment.seeds:
            distances = np.array(
                [
                    _distance(
                        draw(
                            experiment,
                            perturbed(denoiser, delta * experiment.scale, seed),
                            sigmas_T,
                            seed,
                        ),
                        experiment.x,
                    )
                    for delta in DELTAS
                ]
            )
            rows.append(distances / (DELTAS * experiment.scale))
            slopes.append(log_log_slope(DELTAS, distances))
    return {
        "measured": float(np.mean(slopes)),
        "predicted": 1.0,
        "errors": np.abs(np.array(slopes) - 1),
        "seeds": experiment.seeds,
        "note": f"exponent of δ; distance {np.min(rows):.2f} to {np.max(rows):.2f} times δ",
    }
