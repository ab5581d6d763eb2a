"""What steering does to samples, in numbers: of trajectories, one start at increasing strengths.

Pure NumPy. A trajectory is a column of score_SN: S strengths in increasing order, N starts. Scores
are log-odds of the concept by a classifier that the direction was not made with.
"""

from collections.abc import Sequence

import numpy as np
import scipy  # its stats takes most of a second to load: only where it is used
from jaxtyping import Bool, Float

from dae_theory.checks import InputError, check_count, check_samples
from dae_theory.statistics import CONFIDENCE

SLACK = 0.05  # of its range that a trajectory may fall back and still counts as monotone
SATURATED = 0.95  # of the largest gain
# Probabilities nearer to 0 or to 1 are not told apart: the calibration error of the classifier that
# comes with the package, .0095, rounded.
RESOLUTION = 0.01


def log_odds(
    log_probability_NK: Float[np.ndarray, "N K"], k: int | Sequence[int]
) -> Float[np.ndarray, " N"]:
    """Logarithm of p/(1 − p), p the probability of class k or of any of several, exact also where p
    rounds to 0 or 1."""
    some_NK = log_probability_NK[:, np.atleast_1d(k)]
    others_NK = np.delete(log_probability_NK, k, axis=1)
    return scipy.special.logsumexp(some_NK, axis=1) - scipy.special.logsumexp(others_NK, axis=1)


def probability(log_odds_N: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """p of its log-odds."""
    return scipy.special.expit(log_odds_N)


def resolved(log_odds_N: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """Log-odds, held between those of `RESOLUTION` and of 1 − `RESOLUTION`."""
    end = scipy.special.logit(1 - RESOLUTION)
    return np.clip(log_odds_N, -end, end)


# --- of trajectories -----------------------------------------------------------------------------


def spearman(
    strength_S: Float[np.ndarray, " S"], score_SN: Float[np.ndarray, "S N"]
) -> Float[np.ndarray, " N"]:
    """Spearman's rank correlation of strength and score of each trajectory, ties at their mean
    rank; 0 for a score that never changes."""
    strength_S, score_SN = _checked(strength_S, score_SN)
    strength_S1 = _centred_ranks(strength_S[:, None])
    ranks_SN = _centred_ranks(score_SN)
    norms_N = np.linalg.norm(strength_S1) * np.linalg.norm(ranks_SN, axis=0)
    return np.where(
        norms_N > 0, np.sum(strength_S1 * ranks_SN, axis=0) / np.fmax(norms_N, 1e-300), 0
    )


def _centred_ranks(values_SN: np.ndarray) -> np.ndarray:
    """Mean ranks by comparisons, which is fast for few strengths."""
    below_SN = np.sum(values_SN[None] < values_SN[:, None], axis=1)
    equal_SN = np.sum(values_SN[None] == values_SN[:, None], axis=1)
    ranks_SN = below_SN + (equal_SN + 1) / 2
    return ranks_SN - ranks_SN.mean(axis=0)


def rising(score_SN: Float[np.ndarray, "S N"]) -> Float[np.ndarray, " N"]:
    """Goodman and Kruskal's γ of strength and score of each trajectory: of all pairs of strengths
    whose scores differ, the share in which the stronger has the higher minus the share in which it
    has the lower; NaN for a score that never changes."""
    score_SN = check_samples(score_SN, "scores")
    first, second = np.triu_indices(len(score_SN), 1)
    sign_PN = np.sign(score_SN[second] - score_SN[first])
    differ_N = np.sum(np.abs(sign_PN), axis=0)
    return np.where(differ_N > 0, np.sum(sign_PN, axis=0) / np.fmax(differ_N, 1), np.nan)


def monotone(score_SN: Float[np.ndarray, "S N"], slack: float = SLACK) -> Bool[np.ndarray, " N"]:
    """Which trajectories never fall below their highest value before by more than ``slack`` of
    their range; one that never changes does not count."""
    range_N = np.ptp(score_SN, axis=0)
    fall_N = np.max(np.maximum.accumulate(score_SN, axis=0) - score_SN, axis=0)
    return (range_N > 0) & (fall_N <= slack * range_N)


def steps_of(score_SN: Float[np.ndarray, "S N"]) -> Float[np.ndarray, "S-1 N"]:
    """Sizes of the changes from strength to strength."""
    return np.abs(np.diff(score_SN, axis=0))


def path_steps(samples_SND: Float[np.ndarray, "S N D"]) -> Float[np.ndarray, "S-1 N"]:
    """Distances between the samples of neighbouring strengths, in units of the rows."""
    return np.linalg.norm(np.diff(samples_SND, axis=0), axis=2)


def largest_share(step_TN: Float[np.ndarray, "T N"]) -> Float[np.ndarray, " N"]:
    """Largest step over the sum of all: 1/T for equal steps, 1 for one jump; NaN where nothing
    moves."""
    total_N = np.sum(step_TN, axis=0)
    return np.where(
        total_N > 0, np.max(step_TN, axis=0) / np.where(total_N > 0, total_N, 1), np.nan
    )


def first_share(step_TN: Float[np.ndarray, "T N"]) -> Float[np.ndarray, " N"]:
    """First step over the sum of all: 1/T for equal steps, less where little happens before much
    does; NaN where nothing moves."""
    total_N = np.sum(step_TN, axis=0)
    return np.where(total_N > 0, step_TN[0] / np.where(total_N > 0, total_N, 1), np.nan)


def uniformity(step_TN: Float[np.ndarray, "T N"]) -> Float[np.ndarray, " N"]:
    """Entropy of the shares of the steps over its largest value, log T: 1 for equal steps, 0 for
    one jump; NaN where nothing moves.

    Raises:
      InputError: for fewer than two steps.
    """
    check_count(len(step_TN), "number of steps", 2)
    total_N = np.sum(step_TN, axis=0)
    share_TN = step_TN / np.where(total_N > 0, total_N, 1)
    entropy_N = scipy.special.entr(share_TN).sum(axis=0) / np.log(len(step_TN))
    return np.where(total_N > 0, entropy_N, np.nan)


def saturation(strength_S: Float[np.ndarray, " S"], score_SN: Float[np.ndarray, "S N"]) -> float:
    """Smallest strength ≥ 0 at which the mean score has made SATURATED of its largest gain over
    the one at 0, linear in between; NaN where it never gains."""
    strength_S, score_SN = _checked(strength_S, score_SN)
    from_zero = strength_S >= 0
    gain_S = score_SN[from_zero].mean(axis=1)
    gain_S = gain_S - gain_S[0]
    if gain_S.max() <= 0:
        return float("nan")
    return float(_crossing(strength_S[from_zero], gain_S[:, None], SATURATED * gain_S.max())[0])


def at_gain(
    strength_S: Float[np.ndarray, " S"],
    score_SN: Float[np.ndarray, "S N"],
    value_SN: Float[np.ndarray, "S N"],
    gain: float,
) -> Float[np.ndarray, " N"]:
    """A value, such as the distance to the unsteered sample, at the smallest strength ≥ 0 at which
    a trajectory has gained ``gain`` over its score at 0, linear in between; NaN where it never
    does.

    What two ways of steering leave of a sample is compared at equal gain, not at equal strength.
    """
    strength_S, score_SN = _checked(strength_S, score_SN)
    from_zero = strength_S >= 0
    gain_SN = score_SN[from_zero] - score_SN[from_zero][0]
    position_N = _crossing(np.arange(np.sum(from_zero), dtype=float), gain_SN, gain)
    found_N = np.full(score_SN.shape[1], np.nan)
    for n in np.flatnonzero(np.isfinite(position_N)):
        values = value_SN[from_zero, n]
        found_N[n] = np.interp(position_N[n], np.arange(len(values)), values)
    return found_N


def _crossing(
    at_S: Float[np.ndarray, " S"], value_SN: Float[np.ndarray, "S N"], level: float
) -> Float[np.ndarray, " N"]:
    """Where each column first reaches a level, linear in between; NaN where it never does."""
    found_N = np.full(value_SN.shape[1], np.nan)
    for n, values in enumerate(value_SN.T):
        over = np.flatnonzero(values >= level)
        if len(over):
            k = over[0]
            before = values[k - 1] if k else values[0]
            share = 1.0 if values[k] == before else (level - before) / (values[k] - before)
            found_N[n] = at_S[k] if k == 0 else at_S[k - 1] + share * (at_S[k] - at_S[k - 1])
    return found_N


def distances(samples_SND: Float[np.ndarray, "S N D"], base_ND: Float[np.ndarray, "N D"]):
    """Distance (S, N) of samples to the unsteered ones, in units of the rows."""
    return np.linalg.norm(samples_SND - base_ND, axis=2)


def cosines(samples_SND: Float[np.ndarray, "S N D"], base_ND: Float[np.ndarray, "N D"]):
    """Cosine (S, N) of samples and the unsteered ones."""
    norms_SN = np.linalg.norm(samples_SND, axis=2) * np.linalg.norm(base_ND, axis=1)
    return np.sum(samples_SND * base_ND, axis=2) / norms_SN


def _checked(strength_S, score_SN) -> tuple[np.ndarray, np.ndarray]:
    score_SN = check_samples(score_SN, "scores")
    strength_S = np.asarray(strength_S, float)
    if strength_S.shape != score_SN.shape[:1] or np.any(np.diff(strength_S) <= 0):
        raise InputError(
            "strengths: expected increasing ones, one a row of the scores, got "
            f"{strength_S.tolist()}"
        )
    return strength_S, score_SN


# --- of groups of samples ------------------------------------------------------------------------


def energy_distance(x_ND: Float[np.ndarray, "N D"], y_MD: Float[np.ndarray, "M D"]) -> float:
    """2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ without bias (Székely & Rizzo 2004): 0 on average for
    samples of one law, > 0 for two; small negative values are chance.

    Raises:
      InputError: for fewer than two samples on a side.
    """
    for name, rows in (("x", x_ND), ("y", y_MD)):
        check_count(len(check_samples(rows, name)), f"{name}: number of samples", 2)
    between = _pair_distances(x_ND, y_MD).mean()
    inside = [_pair_distances(a, a).sum() / (len(a) * (len(a) - 1)) for a in (x_ND, y_MD)]
    return float(2 * between - sum(inside))


def _pair_distances(x_ND: np.ndarray, y_MD: np.ndarray) -> np.ndarray:
    squares = np.sum(x_ND**2, axis=1)[:, None] + np.sum(y_MD**2, axis=1) - 2 * x_ND @ y_MD.T
    return np.sqrt(np.fmax(squares, 0))


def energy_null(
    real_MD: Float[np.ndarray, "M D"], size: int, seed: int = 0, draws: int = 100
) -> float:
    """What `energy_distance` of ``size`` real images to the other real ones exceeds in 5% of
    random choices: below it, samples cannot be told from real images.

    Raises:
      InputError: unless at least two images are left on each side.
    """
    check_count(size, "size", 2, len(real_MD) - 2)
    check_count(draws, "draws")
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        order = random.permutation(len(real_MD))
        found.append(energy_distance(real_MD[order[:size]], real_MD[order[size:]]))
    return float(np.quantile(found, CONFIDENCE))
