"""Measurements behind the claims on sampling with ReLU nets."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import kstest

from dae_theory.data.mixtures import Mixture
from dae_theory.diffusion.denoisers import Denoiser, DenoisingErrors
from dae_theory.memorization.copies import COPY_RATIO, copy_threshold, gap_ratio
from dae_theory.memorization.nearest import directions, nearest_cosine, nearest_two
from dae_theory.theory.closed_forms import predict_memorization
from dae_theory.theory.separability import separability
from proofs_checks.claims import Assumption, Evidence, log_log_slope, measure_or_vacuous
from proofs_checks.diffusion_exact_evidence import ExactSampling, noise, sample_each
from proofs_checks.diffusion_relu_nets import Family, Problem
from proofs_checks.probes import TRAINED_MARGIN

SAME_DIRECTION = 0.95  # cosine from which a sample is said to lie along a training image
FALSE_ALARM = 0.01  # share of held-out samples that a calibrated threshold calls copies
PAIR_COSINE = -0.25
PAIR_DRAWS = 20_000
PAIR_LEVELS = np.geomspace(0.1, 0.003, 4)  # relative to the norm, far below it
DIRECTED = ("images/set", "images/plain", "few/set", "few/plain")
MEMORIZING = (*DIRECTED, "few/preconditioned")
GENERALIZING = ("many/set", "many/plain", "many/preconditioned")


def stored_denoiser(x_ND: Float[Array, "N D"]) -> Denoiser:
    """The net (5) at every σ, λ = 0: Σ_i m_i x̂_i (x̂_iᵀy)_+ with m_i = ‖x_i‖²/(‖x_i‖² + σ²)."""
    square_N = jnp.sum(jnp.asarray(x_ND) ** 2, axis=1)
    unit_ND = jnp.asarray(x_ND) / jnp.sqrt(square_N)[:, None]

    def denoiser(y_MD: Array, sigma: float) -> Array:
        gain_N = square_N / (square_N + sigma**2)
        return (jnp.maximum(y_MD @ unit_ND.T, 0) * gain_N) @ unit_ND

    return denoiser


def pair_exponent(cosine: float) -> float:
    """Exponent of σ in the share of samples still between two stored images at that cosine.

    Far below the norm the sum of the two units falls like σ^|c| and their difference grows like
    σ^−|c|; one gate closes when the difference exceeds the sum.
    """
    return 2 * abs(cosine)


@dataclass(frozen=True)
class ReluSampling:
    """The experiment: training sets, denoisers trained on them, and samples.

    ``problems``: 'images' are stored images (memorizing), 'few' stored samples of ``mixture``
    (memorizing), 'many' its samples by far outnumber the units (generalizing; the same nets,
    levels, steps and sampler as 'few'). ``families`` and ``samples`` (S, M, D) are named
    'problem/kind', kinds being 'closed' (weights (5) at each level), 'set' (a net trained at each
    level), 'plain' and 'preconditioned' (one net for all levels). ``doubled`` are the samples of
    twice the noise of the first few. ``errors``, arrays (S, L), are
    named 'problem/kind/points'. Formulas and samplers under test are fields, too.
    """

    seeds: tuple[int, ...]
    problems: dict[str, Problem]
    mixture: Mixture
    families: dict[str, Family]
    samples: dict[str, Float[np.ndarray, "S M D"]]
    doubled: dict[str, Float[np.ndarray, "S m D"]]
    errors: dict[str, DenoisingErrors]
    exact: ExactSampling
    stored: Callable[[np.ndarray], Denoiser] = stored_denoiser
    exponent: Callable[[float], float] = pair_exponent
    image_shape: tuple[int, ...] | None = None
    offset: Float[np.ndarray, " D"] | None = None
    note: str = ""
    references: dict[str, Float[np.ndarray, "N D"]] = field(default_factory=dict)

    def reference(self, problem: str) -> Float[np.ndarray, "N D"]:
        """The training samples that samples are compared with: those of the problem, unless a
        mutant names others."""
        return self.references.get(problem, self.problems[problem].x)


def ratios(experiment: ReluSampling, name: str) -> Float[np.ndarray, "S M"]:
    """Gap ratio of each sample to the training samples of its problem."""
    x_ND = experiment.reference(name.split("/")[0])
    return np.stack(
        [gap_ratio(nearest_two(y_MD, x_ND).distances) for y_MD in experiment.samples[name]]
    )


def centred_cosines(experiment: ReluSampling, name: str) -> Float[np.ndarray, "S M"]:
    """Largest cosine to a training sample, the training mean subtracted from both."""
    x_ND = experiment.reference(name.split("/")[0])
    return np.stack([nearest_cosine(y_MD, x_ND).cosines for y_MD in experiment.samples[name]])


def along(experiment: ReluSampling, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Largest cosine to a training sample, nothing subtracted (the nets have no biases, so rays
    from zero matter), and the length of the sample relative to that one's; (S, M) each."""
    x_ND, y_SMD = experiment.reference(name.split("/")[0]), experiment.samples[name]
    zero_D = np.zeros(x_ND.shape[1])
    cosine_SMN = np.stack([directions(y_MD, zero_D) for y_MD in y_SMD]) @ directions(x_ND, zero_D).T
    nearest_SM = np.argmax(cosine_SMN, axis=-1)
    norm_SM = np.linalg.norm(y_SMD, axis=-1)
    return np.max(cosine_SMN, axis=-1), norm_SM / np.linalg.norm(x_ND, axis=1)[nearest_SM]


# --- assumptions --------------------------------------------------------------------------------


def separated(experiment: ReluSampling, problem: str) -> dict[str, Assumption]:
    """The stored samples are separable, with open gates at the lowest noise."""
    p = experiment.problems[problem]
    beta = separability(p.x, np.arange(len(p.x))).beta
    z = predict_memorization(p.x, float(p.levels[-1]), p.lam).margin
    return {
        "beta": Assumption(beta, "< 0", beta < 0),
        "z at the lowest noise": Assumption(z, f">= {TRAINED_MARGIN:g}", z >= TRAINED_MARGIN),
    }


def memorized(experiment: ReluSampling, name: str) -> dict[str, Assumption]:
    """The nets return their training samples at the lowest noise."""
    problem = experiment.problems[name.split("/")[0]]
    error = float(np.mean(experiment.errors[f"{name}/train"].mean[:, -1]) / problem.scale**2)
    return {"error at the lowest noise": Assumption(error, "< 0.05", error < 0.05)}


def outnumbered(experiment: ReluSampling) -> dict[str, Assumption]:
    """There are many more samples than units."""
    problem = experiment.problems["many"]
    share = len(problem.x) / problem.width
    return {"n/p": Assumption(share, ">= 10", share >= 10)}


def check(
    measure: Callable[[ReluSampling], dict],
    tolerance: float,
    *assume: Callable[[ReluSampling], dict[str, Assumption]],
) -> Callable[[ReluSampling], Evidence]:
    """A check that measures only where the assumptions hold."""
    return lambda experiment: measure_or_vacuous(experiment, {}, measure, tolerance, assume)


# --- what memorizing nets give ------------------------------------------------------------------


def measure_copies(name: str) -> Callable[[ReluSampling], dict]:
    """Share of the samples that are copies of training images, beside the 1 of the theory."""

    def measure(experiment: ReluSampling) -> dict:
        share_S = np.mean(ratios(experiment, name) < COPY_RATIO, axis=1)
        centred = np.mean(centred_cosines(experiment, name) > SAME_DIRECTION)
        cosine_SM, length_SM = along(experiment, name)
        low, high = np.quantile(length_SM, (0.1, 0.9))
        return {
            "measured": float(np.mean(share_S)),
            "predicted": 1.0,
            "errors": 1 - share_S,
            "seeds": experiment.seeds,
            "note": f"centred cosine > .95: {centred:.0%}, not centred: "
            f"{np.mean(cosine_SM > SAME_DIRECTION):.0%}; 80% of lengths in {low:.2f} .. {high:.2f}",
        }

    return measure


def measure_homogeneous(experiment: ReluSampling) -> dict:
    """Distance of the samples of doubled noise to doubled samples."""
    names = MEMORIZING + GENERALIZING
    worst_S = np.zeros(len(experiment.seeds))
    for name in names:
        twice_SMD = experiment.doubled[name]
        once_SMD = 2 * experiment.samples[name][:, : twice_SMD.shape[1]]
        difference_S = np.linalg.norm(twice_SMD - once_SMD, axis=(1, 2))
        worst_S = np.maximum(worst_S, difference_S / np.linalg.norm(once_SMD, axis=(1, 2)))
    return {
        "measured": float(np.mean(worst_S)),
        "predicted": 0.0,
        "errors": worst_S,
        "seeds": experiment.seeds,
        "note": f"distance to twice the samples, relative; the worst of {len(names)} kinds of nets",
    }


def measure_rays(experiment: ReluSampling) -> dict:
    """Share of samples that are not along a training sample; the worst kind of net."""
    share_KS = np.stack([_along_share(experiment, name) for name in DIRECTED])
    preconditioned = np.mean(_along_share(experiment, "few/preconditioned"))
    return {
        "measured": float(np.mean(share_KS)),
        "predicted": 1.0,
        "errors": 1 - np.min(share_KS, axis=0),
        "seeds": experiment.seeds,
        "note": f"cosine > .95: {np.min(share_KS):.0%} to {np.max(share_KS):.0%} of the samples; "
        f"preconditioned nets {preconditioned:.0%}",
    }


def _along_share(experiment: ReluSampling, name: str) -> Float[np.ndarray, " S"]:
    return np.mean(along(experiment, name)[0] > SAME_DIRECTION, axis=1)


def pair(cosine: float) -> Float[np.ndarray, "2 2"]:
    """Two unit vectors in the plane at a cosine."""
    return np.array([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]])


def sample_pair(
    experiment: ReluSampling, cosine: float, schedules_RT: Float[np.ndarray, "R T"]
) -> Float[np.ndarray, "R S M 2"]:
    """Samples of the net that stores a `pair`, from noise of a schedule's first level."""
    with jax.enable_x64(True):
        denoiser = experiment.stored(pair(cosine))
        noise_ND = noise(experiment.seeds, PAIR_DRAWS, 2)
        values_R = np.zeros(len(schedules_RT))
        found = sample_each(
            experiment.exact.heun, lambda _: denoiser, values_R, noise_ND, schedules_RT
        )
    return found.reshape(len(schedules_RT), len(experiment.seeds), PAIR_DRAWS, 2)


def measure_lengths(experiment: ReluSampling) -> dict:
    """Kolmogorov distance of the samples' coordinate along ±x, over ‖x‖, to a standard normal."""
    length_SM = sample_pair(experiment, -1.0, np.geomspace(50.0, 1e-3, 120)[None])[0, ..., 0]
    distance_S = np.array([kstest(length_M, "norm").statistic for length_M in length_SM])
    return {
        "measured": float(np.std(length_SM)),
        "predicted": 1.0,
        "errors": np.sqrt(PAIR_DRAWS) * distance_S,
        "seeds": experiment.seeds,
        "note": "standard deviation of the length; error: √M times the Kolmogorov distance",
    }


def measure_competition(experiment: ReluSampling) -> dict:
    """Exponent of σ in the share of samples on which both gates of a pair are open."""
    schedules_RT = np.stack([np.geomspace(2.0, last, 60) for last in PAIR_LEVELS])
    samples_RSM2 = sample_pair(experiment, PAIR_COSINE, schedules_RT)
    between_RS = np.mean(np.all(samples_RSM2 @ pair(PAIR_COSINE).T > 0, axis=-1), axis=-1)
    # A share of 0 has no logarithm, and must not count as a slope either.
    slopes = np.array([log_log_slope(PAIR_LEVELS, share_R + 1e-9) for share_R in between_RS.T])
    predicted = experiment.exponent(PAIR_COSINE)
    return {
        "measured": float(np.mean(slopes)),
        "predicted": predicted,
        "errors": np.abs(slopes - predicted),
        "seeds": experiment.seeds,
        "note": f"two unit vectors at cosine {PAIR_COSINE}; σ {PAIR_LEVELS[0]} .. "
        f"{PAIR_LEVELS[-1]}; {PAIR_DRAWS} samples a seed",
    }


# --- what generalizing nets give ----------------------------------------------------------------


def measure_no_copies(experiment: ReluSampling) -> dict:
    """Share of copies among the samples of generalizing nets; the worst kind."""
    share_KS = np.stack(
        [np.mean(ratios(experiment, name) < COPY_RATIO, axis=1) for name in GENERALIZING]
    )
    memorizing = np.mean(ratios(experiment, "few/set") < COPY_RATIO)
    return {
        "measured": float(np.mean(share_KS)),
        "predicted": 0.0,
        "errors": np.max(share_KS, axis=0),
        "seeds": experiment.seeds,
        "note": f"worst of {len(GENERALIZING)} kinds; same nets on "
        f"{len(experiment.problems['few'].x)} samples: {memorizing:.0%}",
    }


def measure_calibrated(experiment: ReluSampling) -> dict:
    """The same below a threshold that calls FALSE_ALARM of held-out samples copies."""
    held_out = experiment.problems["many"].held_out
    threshold = copy_threshold(held_out, experiment.reference("many"), FALSE_ALARM).gap_ratio
    share_KS = np.stack(
        [np.mean(ratios(experiment, name) < threshold, axis=1) for name in GENERALIZING]
    )
    return {
        "measured": float(np.mean(share_KS)),
        "predicted": FALSE_ALARM,
        "errors": np.max(share_KS, axis=0),
        "seeds": experiment.seeds,
        "note": f"gap ratio below {threshold:.2f}, as in {FALSE_ALARM:.0%} of held-out samples; "
        "worst kind",
    }


# --- denoising errors ---------------------------------------------------------------------------


def measure_generalizes(experiment: ReluSampling) -> dict:
    """Excess of the error on held-out samples over that on training samples, all levels summed."""

    def excess(name):
        train, test = (experiment.errors[f"{name}/{on}"].mean.sum(1) for on in ("train", "test"))
        return test / train - 1

    excess_KS = np.stack([excess(name) for name in GENERALIZING])
    return {
        "measured": float(np.mean(excess_KS)),
        "predicted": 0.0,
        "errors": np.max(np.abs(excess_KS), axis=0),
        "seeds": experiment.seeds,
        "note": "error on held-out over training samples, less 1; same nets on few samples: "
        f"{np.mean(excess('few/set')):.2f}",
    }


def measure_floor(experiment: ReluSampling) -> dict:
    """How far any denoiser's error falls below that of the exact one, in standard errors."""
    floor = experiment.errors["many/exact/test"].mean
    others = [
        (name, found)
        for name, found in experiment.errors.items()
        if name.endswith("/test") and "/exact/" not in name and not name.startswith("images")
    ]
    below = np.array([np.max((floor - e.mean) / e.standard_error) for _, e in others])
    nearest = min((float(np.mean(e.mean / floor)), name) for name, e in others)
    return {
        "measured": nearest[0],
        "predicted": 1.0,
        "errors": np.array([max(0.0, float(np.max(below)))]),
        "note": f"times the exact error, mean over σ; nearest: "
        f"{nearest[1].removesuffix('/test')}; error in standard errors",
    }


def measure_stored_error(experiment: ReluSampling) -> dict:
    """Error of the weights (5) on the samples they store, by noise draws beside the formula."""
    problem = experiment.problems["few"]
    square_N = np.sum(problem.x**2, axis=1)
    predictions = [predict_memorization(problem.x, s, problem.lam) for s in problem.levels]
    open_L = np.array([p.margin >= TRAINED_MARGIN for p in predictions])
    predicted_L = np.array(
        [np.mean((1 - p.gains) ** 2 * square_N + (p.gains * p.sigma) ** 2) for p in predictions]
    )[open_L]
    measured_L = experiment.errors["few/closed/train"].mean[0, open_L]
    trained = np.mean(experiment.errors["few/set/train"].mean[:, open_L] / predicted_L)
    return {
        "measured": float(np.mean(measured_L)),
        "predicted": float(np.mean(predicted_L)),
        "errors": np.array([np.max(np.abs(measured_L / predicted_L - 1))]),
        "note": f"at the {np.sum(open_L)} of {len(open_L)} levels with z >= {TRAINED_MARGIN:g}, "
        f"worst relative error; trained nets: {trained:.2f} times that",
    }
