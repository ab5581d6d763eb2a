"""A case of the study in a few numbers."""

from collections.abc import Mapping, Sequence

import numpy as np

from dae_theory.steer import metrics

GAIN = 3.0  # of log-odds, at which ways of steering are compared


def summary(strengths: Sequence[float], arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means over starts; see `metrics`.

    'first_step' is the share of the path from strength 0 to the highest that its first step makes;
    'gain' that of the log-odds between the two; 'kept' the cosine
    with the unsteered sample where the gain is GAIN, 'reached' the share of starts that reach it.
    """
    strength_S = np.asarray(strengths)
    odds_SN, path_TN = arrays["log_odds"].astype(float), arrays["path"].astype(float)
    chance_SN = metrics.probability(odds_SN)
    zero = int(np.argmin(np.abs(strength_S)))
    kept_N = metrics.at_gain(strength_S, odds_SN, arrays["cosine"].astype(float), GAIN)
    return {
        "spearman": _mean(metrics.spearman(strength_S, odds_SN)),
        "spearman_of_mean": _mean(metrics.spearman(strength_S, odds_SN.mean(axis=1)[:, None])),
        "monotone": _mean(metrics.monotone(odds_SN)),
        "largest_step": _mean(metrics.largest_share(path_TN)),
        "first_step": _mean(metrics.first_share(path_TN[zero:])),
        "uniformity": _mean(metrics.uniformity(path_TN)),
        "largest_step_of_score": _mean(metrics.largest_share(metrics.steps_of(chance_SN))),
        "gain": _mean(odds_SN[-1] - odds_SN[zero]),
        "chance_before": _mean(chance_SN[zero]),
        "chance_after": _mean(chance_SN[-1]),
        "saturation": metrics.saturation(strength_S, odds_SN),
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
