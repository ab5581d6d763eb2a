"""Measurements of samplers with exact denoisers: order of convergence, f_emp's samples."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dae_theory.diffusion.denoisers import Denoiser, empirical_denoiser, gaussian_denoiser
from dae_theory.diffusion.samplers import sample_ode, start_noise
from dae_theory.diffusion.schedules import geometric_schedule
from dae_theory.memorization.copies import COPY_RATIO, gap_ratio
from dae_theory.memorization.nearest import nearest_two
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


def flow_errors(sampler: Sampler, seeds: tuple[int, ...]) -> Float[np.ndarray, "S T"]:
    """Largest error of the flow of a Gaussian, for each seed's rotation and number of steps.

    Along an eigenvector with eigenvalue e the flow multiplies by √((e + σ²)/(e + σ_0²)).
    """
    vectors_S = np.stack(
        [np.linalg.qr(np.random.default_rng(s).standard_normal((3, 3)))[0] for s in seeds]
    )
    start_S = np.stack([start_noise(jax.random.key(s), 20, 3, FLOW_FROM) for s in seeds])
    factor = np.sqrt((EIGENVALUES + FLOW_TO**2) / (EIGENVALUES + FLOW_FROM**2))
    exact_S = np.swapaxes(vectors_S @ (factor * (start_S @ vectors_S)).swapaxes(1, 2), 1, 2)
    errors = []
    for steps in FLOW_STEPS:
        sigmas_T = np.geomspace(FLOW_FROM, FLOW_TO, steps + 1)

        def flow(vectors, start, sigmas_T=sigmas_T):
            denoiser = gaussian_denoiser(jnp.zeros(3), (vectors * EIGENVALUES) @ vectors.T)
            return sampler(denoiser, start, sigmas_T)

        found_S = jax.jit(jax.vmap(flow))(vectors_S, start_S)
        errors.append(np.max(np.abs(found_S - exact_S), axis=(1, 2)))
    return np.stack(errors, axis=1)


def measure_order(method: str, order: int) -> Callable[[ExactSampling], dict]:
    """Exponent of the number of steps in the error of a sampler."""

    def measure(experiment: ExactSampling) -> dict:
        with jax.enable_x64(True):
            errors_ST = flow_errors(getattr(experiment, method), experiment.seeds)
        slopes = np.array([-log_log_slope(FLOW_STEPS, errors_T) for errors_T in errors_ST])
        return {
            "measured": float(np.mean(slopes)),
            "predicted": float(order),
            "errors": np.abs(slopes - order),
            "seeds": experiment.seeds,
            "note": f"flow of a Gaussian, {FLOW_STEPS[0]} to {FLOW_STEPS[-1]} steps; error "
            f"{np.mean(errors_ST[:, -1]):.1e} at the last",
        }

    return measure


def noise(seeds: tuple[int, ...], draws: int, d: int) -> Float[np.ndarray, "SM D"]:
    """Standard normal numbers (S·M, D), M draws of each seed."""
    return np.concatenate([start_noise(jax.random.key(seed), draws, d, 1.0) for seed in seeds])


def sample_each(
    sampler: Sampler,
    denoisers: Callable[[np.ndarray], Denoiser],
    values_R: Float[np.ndarray, " R"],
    noise_ND: Float[np.ndarray, "N D"],
    schedules_RT: Float[np.ndarray, "R T"],
) -> Float[np.ndarray, "R N D"]:
    """Samples of denoiser(value) along a schedule, for each of R, in one compiled call."""

    def one(case):
        value, sigmas_T = case
        return sampler(denoisers(value), sigmas_T[0] * noise_ND, sigmas_T)

    return np.asarray(jax.jit(lambda cases: jax.lax.map(one, cases))((values_R, schedules_RT)))


def rms_distance(
    samples_RND: Float[np.ndarray, "R N D"], x_ND: Float[np.ndarray, "K D"], n_seeds: int
) -> Float[np.ndarray, "S R"]:
    """Root-mean-square distance to the nearest training sample, for each seed."""
    near_RN = np.stack([nearest_two(y, x_ND).distances[:, 0] for y in samples_RND])
    return np.sqrt(np.mean(near_RN.reshape(len(near_RN), n_seeds, -1) ** 2, axis=-1)).T


def measure_copies(experiment: ExactSampling) -> dict:
    """Share of f_emp's samples that are copies, few steps or many."""
    shares = []
    for steps in (6, 48):
        sigmas_T = experiment.scale * geometric_schedule(2.0, 0.02, steps)
        samples_ND = _draw(experiment, [sigmas_T])[0]
        ratio_N = gap_ratio(nearest_two(samples_ND, experiment.x).distances)
        shares.append(np.mean(ratio_N.reshape(len(experiment.seeds), -1) < COPY_RATIO, axis=1))
    return {
        "measured": float(np.mean(shares)),
        "predicted": 1.0,
        "errors": 1 - np.min(shares, axis=0),
        "seeds": experiment.seeds,
        "note": "by 6 and by 48 steps of Heun's method, the worse of the two",
    }


def _draw(experiment: ExactSampling, schedules) -> Float[np.ndarray, "R N D"]:
    """Samples of the denoiser under test along each schedule."""
    with jax.enable_x64(True):
        denoiser = experiment.empirical(experiment.x)
        noise_ND = noise(experiment.seeds, DRAWS, experiment.x.shape[1])
        values_R = np.zeros(len(schedules))
        return sample_each(
            experiment.heun, lambda _: denoiser, values_R, noise_ND, np.stack(schedules)
        )


def measure_last_level(experiment: ExactSampling) -> dict:
    """Exponent of the last noise level in the distance to the nearest training sample."""
    schedules = [experiment.scale * np.geomspace(2.0, last, 48) for last in LAST_LEVELS]
    samples_RND = _draw(experiment, schedules)
    distance_SR = rms_distance(samples_RND, experiment.x, len(experiment.seeds))
    slopes = np.array([log_log_slope(LAST_LEVELS, distance_R) for distance_R in distance_SR])
    return {
        "measured": float(np.mean(slopes)),
        "predicted": 1.0,
        "errors": np.abs(slopes - 1),
        "seeds": experiment.seeds,
        "note": f"stopped at σ = {LAST_LEVELS[0]:g} .. {LAST_LEVELS[-1]:g} of the rms norm; rms "
        "distance",
    }


def perturbed(denoiser: Denoiser, size: float, turn_DD: Float[np.ndarray, "D D"]) -> Denoiser:
    """A denoiser with an error of norm ``size`` in a direction that varies with y."""

    def wrong(y_ND, sigma):
        field_ND = jnp.cos(y_ND @ turn_DD)
        norm_N1 = jnp.linalg.norm(field_ND, axis=1, keepdims=True)
        return denoiser(y_ND, sigma) + size * field_ND / norm_N1

    return wrong


def measure_perturbed(experiment: ExactSampling) -> dict:
    """Exponent of the denoiser's error δ in the distance to the nearest training sample."""
    d = experiment.x.shape[1]
    turn_DD = np.random.default_rng(0).standard_normal((d, d)) / np.sqrt(d)
    sigmas_T = experiment.scale * geometric_schedule(2.0, 0.002, 48)
    sizes_R = experiment.scale * DELTAS
    with jax.enable_x64(True):
        denoiser = experiment.empirical(experiment.x)
        samples_RND = sample_each(
            experiment.heun,
            lambda size: perturbed(denoiser, size, turn_DD),
            sizes_R,
            noise(experiment.seeds, DRAWS, d),
            np.stack([sigmas_T] * len(sizes_R)),
        )
    distance_SR = rms_distance(samples_RND, experiment.x, len(experiment.seeds))
    slopes = np.array([log_log_slope(DELTAS, distance_R) for distance_R in distance_SR])
    times_SR = distance_SR / sizes_R
    return {
        "measured": float(np.mean(slopes)),
        "predicted": 1.0,
        "errors": np.abs(slopes - 1),
        "seeds": experiment.seeds,
        "note": f"exponent of δ; distance {times_SR.min():.2f} to {times_SR.max():.2f} times δ",
    }
