"""Samplers with exact denoisers: order of convergence, and what f_emp samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.diffusion.denoisers import Denoiser, empirical_denoiser, gaussian_denoiser
from dae_theory.diffusion.samplers import sample_ode, start_noise
from dae_theory.diffusion.schedules import geometric_schedule
from dae_theory.memorization.copies import COPY_RATIO, fraction_memorized, gap_ratio
from dae_theory.memorization.nearest import nearest_two
from dae_theory.statistics import log_log_slope
from dae_theory.theory.closed_forms import block_gains
from proofs_checks.claims import FIXED, Claim, Kind, Measured, derived
from proofs_checks.mutants import instead

Sampler = Callable[[Denoiser, np.ndarray, np.ndarray], np.ndarray]

EIGENVALUES = np.array([4.0, 0.5, 0.05])
FLOW_FROM, FLOW_TO = 3.0, 0.1
FLOW_STEPS = np.array([24, 48, 96, 192])
DRAWS = 200
LAST_LEVELS = np.geomspace(0.05, 0.001, 4)  # relative to the samples' rms norm
DELTAS = np.geomspace(0.03, 0.001, 4)
WAY = (np.arange(50) + 0.5) / 100  # shares of the way to the nearest neighbour, up to halfway


def euler(denoiser: Denoiser, start_ND: Array, sigmas_T: Array) -> Array:
    """`sample_ode` by Euler's method."""
    return sample_ode(denoiser, start_ND, sigmas_T, "euler")


def heun(denoiser: Denoiser, start_ND: Array, sigmas_T: Array) -> Array:
    """`sample_ode` by Heun's method."""
    return sample_ode(denoiser, start_ND, sigmas_T, "heun")


@dataclass(frozen=True)
class ExactSampling:
    """Samplers under test, a denoiser that knows training samples, of each seed its own ``x``
    (S, N, D), and the ratio that tells copies of them."""

    seeds: tuple[int, ...]
    x: Float[np.ndarray, "S N D"]
    euler: Sampler = euler
    heun: Sampler = heun
    empirical: Callable[[np.ndarray], Denoiser] = empirical_denoiser
    ratio: Callable[[np.ndarray], np.ndarray] = gap_ratio

    @property
    def scale(self) -> float:
        """Root of the mean of ‖x‖²."""
        return float(np.sqrt(np.mean(np.sum(self.x**2, axis=-1))))

    def denoiser(self, y_ND: Float[Array, "SM D"], sigma: float) -> Float[Array, "SM D"]:
        """That of each seed, which knows its samples, of as many y."""
        y_SMD = y_ND.reshape(len(self.seeds), -1, y_ND.shape[-1])
        of_seed = jax.vmap(lambda x_ND, y_MD: self.empirical(x_ND)(y_MD, sigma))
        return of_seed(self.x, y_SMD).reshape(y_ND.shape)


def stored_denoiser(x_ND: Float[Array, "N D"]) -> Denoiser:
    """The net (5) at every σ, λ = 0: Σ_i m_i x̂_i (x̂_iᵀy)_+ with m_i = ‖x_i‖²/(‖x_i‖² + σ²)."""
    square_N = jnp.sum(jnp.asarray(x_ND) ** 2, axis=1)
    unit_ND = jnp.asarray(x_ND) / jnp.sqrt(square_N)[:, None]

    def denoiser(y_MD: Array, sigma: float) -> Array:
        gain_N = block_gains(square_N, 0.0, sigma**2)
        return (jnp.maximum(y_MD @ unit_ND.T, 0) * gain_N) @ unit_ND

    return denoiser


# --- samples ------------------------------------------------------------------------------------


def equally_long(schedules: Sequence[Float[np.ndarray, " _"]]) -> Float[np.ndarray, "R T"]:
    """Schedules that begin with as many steps of no length as makes them equally long.

    Such steps change nothing, and samplers then compile once for all schedules.
    """
    longest = max(len(sigmas_T) for sigmas_T in schedules)
    return np.stack([np.pad(s, (longest - len(s), 0), "edge") for s in schedules])


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


def empirical_samples(
    e: ExactSampling, schedules: Sequence[Float[np.ndarray, " _"]]
) -> Float[np.ndarray, "R SM D"]:
    """Samples of the denoiser under test along each schedule, seed by seed."""
    with jax.enable_x64(True):
        noise_ND = noise(e.seeds, DRAWS, e.x.shape[-1])
        values_R = np.zeros(len(schedules))
        return sample_each(
            e.heun, lambda _: e.denoiser, values_R, noise_ND, equally_long(schedules)
        )


def nearest_of_seed(
    samples_RND: Float[np.ndarray, "R SM D"], x_SND: Float[np.ndarray, "S N D"]
) -> Float[np.ndarray, "S R M 2"]:
    """Distances of samples to the two nearest training samples of their seed."""
    per_seed = np.split(samples_RND, len(x_SND), axis=1)
    return np.array(
        [
            [nearest_two(y_MD, x_ND).distances for y_MD in y_RMD]
            for y_RMD, x_ND in zip(per_seed, x_SND, strict=True)
        ]
    )


def rms_distance(
    samples_RND: Float[np.ndarray, "R SM D"], x_SND: Float[np.ndarray, "S N D"]
) -> Float[np.ndarray, "S R"]:
    """Root-mean-square distance to the nearest training sample, for each seed."""
    return np.sqrt(np.mean(nearest_of_seed(samples_RND, x_SND)[..., 0] ** 2, axis=-1))


# --- measurements -------------------------------------------------------------------------------


def flow_errors(sampler: Sampler, seeds: tuple[int, ...]) -> Float[np.ndarray, "S R"]:
    """Largest error of the flow of a Gaussian, for each seed's rotation and number of steps.

    Along an eigenvector with eigenvalue e the flow multiplies by √((e + σ²)/(e + σ_0²)).
    """
    vectors_S33 = np.stack(
        [np.linalg.qr(np.random.default_rng(s).standard_normal((3, 3)))[0] for s in seeds]
    )
    start_SN3 = np.stack([start_noise(jax.random.key(s), 20, 3, FLOW_FROM) for s in seeds])
    factor = np.sqrt((EIGENVALUES + FLOW_TO**2) / (EIGENVALUES + FLOW_FROM**2))
    exact_SN3 = (factor * (start_SN3 @ vectors_S33)) @ vectors_S33.swapaxes(1, 2)
    schedules_RT = equally_long([np.geomspace(FLOW_FROM, FLOW_TO, n + 1) for n in FLOW_STEPS])

    def flow(vectors_33, start_N3):
        denoiser = gaussian_denoiser(jnp.zeros(3), (vectors_33 * EIGENVALUES) @ vectors_33.T)
        return jax.lax.map(lambda sigmas_T: sampler(denoiser, start_N3, sigmas_T), schedules_RT)

    found_SRN3 = jax.jit(jax.vmap(flow))(vectors_S33, start_SN3)
    return np.max(np.abs(found_SRN3 - exact_SN3[:, None]), axis=(2, 3))


def order_of(method: str, order: int) -> Callable[[ExactSampling], Measured]:
    """Exponent of the number of steps in the error of a sampler."""

    def measure(e: ExactSampling) -> Measured:
        with jax.enable_x64(True):
            errors_SR = flow_errors(getattr(e, method), e.seeds)
        slopes = np.array([-log_log_slope(FLOW_STEPS, errors_R) for errors_R in errors_SR])
        return Measured(
            float(np.mean(slopes)),
            float(order),
            np.abs(slopes - order),
            e.seeds,
            f"flow of a Gaussian, {FLOW_STEPS[0]} to {FLOW_STEPS[-1]} steps; error "
            f"{np.mean(errors_SR[:, -1]):.1e} at the last",
        )

    return measure


def empirical_copies(e: ExactSampling) -> Measured:
    """Share of f_emp's samples that are copies, few steps or many."""
    schedules = [e.scale * geometric_schedule(2.0, 0.02, steps) for steps in (6, 48)]
    distances_SRM2 = nearest_of_seed(empirical_samples(e, schedules), e.x)
    ratios_SRM = gap_ratio(distances_SRM2.reshape(-1, 2)).reshape(distances_SRM2.shape[:-1])
    share_SR = np.mean(ratios_SRM < COPY_RATIO, axis=-1)
    return Measured(
        float(np.mean(share_SR)),
        1.0,
        1 - np.min(share_SR, axis=1),
        e.seeds,
        "by 6 and by 48 steps of Heun's method, the worse of the two",
        cases=DRAWS,
    )


def last_level(e: ExactSampling) -> Measured:
    """Exponent of the last noise level in the distance to the nearest training sample."""
    schedules = [e.scale * np.geomspace(2.0, last, 48) for last in LAST_LEVELS]
    distance_SR = rms_distance(empirical_samples(e, schedules), e.x)
    slopes = np.array([log_log_slope(LAST_LEVELS, distance_R) for distance_R in distance_SR])
    return Measured(
        float(np.mean(slopes)),
        1.0,
        np.abs(slopes - 1),
        e.seeds,
        f"stopped at σ = {LAST_LEVELS[0]:g} .. {LAST_LEVELS[-1]:g} of the rms norm; rms distance",
    )


def perturbed(denoiser: Denoiser, size: float, turn_DD: Float[np.ndarray, "D D"]) -> Denoiser:
    """A denoiser with an error of norm ``size`` in a direction that varies with y."""

    def wrong(y_ND: Array, sigma: float) -> Array:
        field_ND = jnp.cos(y_ND @ turn_DD)
        norm_N1 = jnp.linalg.norm(field_ND, axis=1, keepdims=True)
        return denoiser(y_ND, sigma) + size * field_ND / norm_N1

    return wrong


def perturbed_distance(e: ExactSampling) -> Measured:
    """Exponent of the denoiser's error δ in the distance to the nearest training sample."""
    d = e.x.shape[-1]
    turn_DD = np.random.default_rng(0).standard_normal((d, d)) / np.sqrt(d)
    sigmas_T = e.scale * geometric_schedule(2.0, 0.002, 48)
    sizes_R = e.scale * DELTAS
    with jax.enable_x64(True):
        samples_RND = sample_each(
            e.heun,
            lambda size: perturbed(e.denoiser, size, turn_DD),
            sizes_R,
            noise(e.seeds, DRAWS, d),
            np.stack([sigmas_T] * len(sizes_R)),
        )
    distance_SR = rms_distance(samples_RND, e.x)
    slopes = np.array([log_log_slope(DELTAS, distance_R) for distance_R in distance_SR])
    times_SR = distance_SR / sizes_R
    return Measured(
        float(np.mean(slopes)),
        1.0,
        np.abs(slopes - 1),
        e.seeds,
        f"exponent of δ; distance {times_SR.min():.2f} to {times_SR.max():.2f} times δ",
    )


def copies_on_the_way(e: ExactSampling) -> Measured:
    """How far on the way from each training sample to its nearest neighbour samples are copies.

    At a share t of the way, up to a half, the two are the nearest two: the ratio is t/(1 − t).
    """
    x_ND = e.x[0]
    neighbours_ND = x_ND[nearest_two(x_ND, x_ND).indices[:, 1]]
    ends_N = []
    for here_D, there_D in zip(x_ND, neighbours_ND, strict=True):
        on_the_way_WD = here_D + WAY[:, None] * (there_D - here_D)
        ratio_W = e.ratio(nearest_two(on_the_way_WD, x_ND).distances)
        ends_N.append(fraction_memorized(ratio_W).value / 2)
    return Measured(
        float(np.mean(ends_N)),
        1 / 4,
        np.array([np.max(np.abs(np.array(ends_N) - 1 / 4))]),
        note=f"share of the way, of {len(WAY)} samples up to halfway",
    )


# --- mutants ------------------------------------------------------------------------------------


def higher_level(denoiser: Denoiser, start_ND: Array, sigmas_T: Array) -> Array:
    """Euler's method, the denoiser called with a σ 5% too high."""
    return euler(lambda y, sigma: denoiser(y, 1.05 * sigma), start_ND, sigmas_T)


def late_corrector(denoiser: Denoiser, start_ND: Array, sigmas_T: Array) -> Array:
    """Heun's method with the second slope divided by the level it came from."""

    def step(y_ND, levels):
        sigma, following = levels
        here_ND = (y_ND - denoiser(y_ND, sigma)) / sigma
        euler_ND = y_ND + (following - sigma) * here_ND
        there_ND = (euler_ND - denoiser(euler_ND, following)) / sigma
        return y_ND + (following - sigma) * (here_ND + there_ND) / 2, None

    sigmas_T = jnp.asarray(sigmas_T)
    return jax.lax.scan(step, start_ND, (sigmas_T[:-1], sigmas_T[1:]))[0]


def wiener(x_ND: Float[Array, "N D"]) -> Denoiser:
    """The posterior mean under one Gaussian of the samples' moments."""
    return gaussian_denoiser(jnp.mean(x_ND, axis=0), jnp.cov(jnp.asarray(x_ND).T, bias=True))


def opposite_score(denoiser: Denoiser) -> Denoiser:
    """The denoiser whose score has the opposite sign: D − y for y − D."""
    return lambda y_ND, sigma: 2 * y_ND - denoiser(y_ND, sigma)


OPPOSITE_SCORE = instead(
    "score of opposite sign", "empirical", lambda x_ND: opposite_score(empirical_denoiser(x_ND))
)
ONE_GAUSSIAN = instead("one Gaussian for f_emp", "empirical", wiener)
STORED = instead("the net (5) for f_emp", "empirical", stored_denoiser)

CLAIMS = (
    Claim(
        id="diffusion/euler-order",
        statement="The probability flow by Euler's method errs like 1/steps.",
        source="docs/THEORY.md#samplers",
        part="exact",
        measure=order_of("euler", 1),
        tolerance=0.3,
        mutants=(
            instead("Heun's method", "euler", heun),
            instead("σ 5% too high", "euler", higher_level),
        ),
        kind=Kind.EXACT,
        origin=derived("docs/THEORY.md#samplers"),
    ),
    Claim(
        id="diffusion/heun-order",
        statement="The probability flow by Heun's method errs like 1/steps².",
        source="docs/THEORY.md#samplers",
        part="exact",
        measure=order_of("heun", 2),
        tolerance=0.3,
        mutants=(
            instead("Euler's method", "heun", euler),
            instead("second slope at the first level", "heun", late_corrector),
        ),
        kind=Kind.EXACT,
        origin=derived("docs/THEORY.md#samplers"),
    ),
    Claim(
        id="diffusion/empirical-copies",
        statement="Sampling with f_emp gives training samples, by few steps or many.",
        source="docs/THEORY.md#f-emp",
        part="exact",
        measure=empirical_copies,
        tolerance=0.05,
        mutants=(OPPOSITE_SCORE, ONE_GAUSSIAN, STORED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="diffusion/empirical-distance",
        statement="Stopped at noise level σ, its samples are at a distance ∝ σ from training "
        "samples.",
        source="docs/THEORY.md#f-emp",
        part="exact",
        measure=last_level,
        tolerance=0.1,
        mutants=(ONE_GAUSSIAN, STORED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="diffusion/empirical-perturbed",
        statement="An error δ of the denoiser moves its samples ∝ δ off the training samples.",
        source="docs/THEORY.md#f-emp",
        part="exact",
        measure=perturbed_distance,
        tolerance=0.1,
        mutants=(ONE_GAUSSIAN, STORED),
        kind=Kind.CONFIRMATORY,
        origin=FIXED,
    ),
    Claim(
        id="diffusion/copies-on-the-way",
        statement="On the way from a training sample to its nearest neighbour, samples are copies "
        "for the first quarter.",
        source="docs/THEORY.md#copies",
        part="exact",
        measure=copies_on_the_way,
        tolerance=1e-9,
        mutants=(
            instead("squared distances", "ratio", lambda distances: gap_ratio(distances**2)),
            instead("distance for ratio", "ratio", lambda distances: distances[:, 0]),
        ),
        kind=Kind.EXACT,
    ),
)
