"""A case of the study in a few numbers."""

from collections.abc import Mapping, Sequence

import numpy as np

from dae_theory.steer import metrics

GAIN = 3.0  # of log-odds, of which the resolved ones run from −4.6 to 4.6, at which ways compare


def summary(strengths: Sequence[float], arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means over starts; see `metrics`.

    'spearman' and 'rising' are of log-odds, all or resolved, 'spearman_of_mean' is of the mean
    probability, 'monotone' of each. 'first_step' is the share of the path from strength 0 to the
    highest that its first step makes; 'gain' that of the probability from the lowest strength to
    the highest; 'kept' the cosine with the unsteered sample where resolved log-odds are GAIN above
    those at 0, 'reached' the share of starts that get there.
    """
    strength_S = np.asarray(strengths)
    odds_SN, path_TN = arrays["log_odds"].astype(float), arrays["path"].astype(float)
    chance_SN = metrics.probability(odds_SN)
    resolved_SN = metrics.resolved(odds_SN)
    zero = int(np.argmin(np.abs(strength_S)))
    kept_N = metrics.at_gain(strength_S, resolved_SN, arrays["cosine"].astype(float), GAIN)
    return {
        "spearman": _mean(metrics.spearman(strength_S, odds_SN)),
        "spearman_of_mean": _mean(metrics.spearman(strength_S, chance_SN.mean(axis=1)[:, None])),
        "rising": _mean(metrics.rising(resolved_SN)),
        "monotone": _mean(metrics.monotone(chance_SN)),
        "largest_step": _mean(metrics.largest_share(path_TN)),
        "first_step": _mean(metrics.first_share(path_TN[zero:])),
        "uniformity": _mean(metrics.uniformity(path_TN)),
        "largest_step_of_score": _mean(metrics.largest_share(metrics.steps_of(chance_SN))),
        "gain": _mean(chance_SN[-1] - chance_SN[0]),
        "chance": _mean(chance_SN[zero]),
        "saturation": metrics.saturation(strength_S, resolved_SN),
        "kept": _mean(kept_N),
        "reached": _mean(np.isfinite(kept_N)),
        "path": _mean(path_TN.sum(axis=0)),
        "copies_before": _mean(arrays["copy"][zero]),
        "copies_after": _mean(arrays["copy"][-1]),
        "realism_before": float(arrays["realism"][zero]),
        "realism_after": float(arrays["realism"][-1]),
    }


def _mean(values) -> float:
    """NaN of nothing."""
    values = np.asarray(values, float)
    return float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else np.nan
