"""Spiky against balanced: representations h of memorizing and generalizing nets.

Both kinds of net have the same optimizer, σ, λ and number of units P; the memorizing ones saw one
sample of each cluster, the generalizing ones all samples. (a), (b): h of one noised training
sample that both have seen, in the first net of each kind; of the memorized samples the one with
the median effective number of units, so neither the best nor the worst. (c): the standard
deviation of h over units, the paper's measure, which depends on the scale of h and on P, and
which splitting a unit into collinear ones lowers. (d): the effective number of units
(Σh²)²/Σh⁴, collinear ones merged, which depends on neither.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dae_theory.relu.units import collinear_groups, merge_groups, spikiness
from figures.results import RunResults
from figures.style import GENERALIZING, MEMORIZING, TWO_COLUMNS, new_figure, panel_title

ID = "representations"
REGIMES = ("generalize",)
NEEDS = (
    "generalize/x",
    "generalize/sigma",
    "generalize/w1",
    "generalize/w2",
    "generalize/exemplars",
    "generalize/memorizing_w1",
    "generalize/memorizing_w2",
)
NOISE_SEED = 0
NOISY_COPIES = 2000  # noised samples per kind of net, at least
BINS = 40
KINDS = (("memorizing", MEMORIZING), ("generalizing", GENERALIZING))


def noised_copies(x_ND: np.ndarray, sigma: float) -> np.ndarray:
    """Whole rounds of the samples with fresh noise, NOISY_COPIES or more (M, D)."""
    rounds = -(-NOISY_COPIES // len(x_ND))
    copies_MD = np.tile(x_ND, (rounds, 1))
    noise_MD = np.random.default_rng(NOISE_SEED).standard_normal(copies_MD.shape)
    return copies_MD + sigma * noise_MD


def encode(w1_DP: np.ndarray, y_MD: np.ndarray) -> np.ndarray:
    """h = [W1ᵀy]_+ (M, P) in float64."""
    return np.maximum(y_MD @ w1_DP, 0.0)


def statistics(
    pairs: list[tuple[np.ndarray, np.ndarray]], y_MD: np.ndarray
) -> dict[str, np.ndarray]:
    """Over all nets and noised samples: ``std`` of h, ``units`` effective ones after merging."""
    std, units = [], []
    for w1_DP, w2_DP in pairs:
        h_MP = encode(w1_DP, y_MD)
        merged = merge_groups(h_MP, collinear_groups(w1_DP, w2_DP))
        std.append(spikiness(h_MP)["std"])
        units.append(spikiness(merged)["participation_ratio"])
    return {"std": np.concatenate(std), "units": np.concatenate(units)}


def typical_sample(w1_DP: np.ndarray, w2_DP: np.ndarray, y_MD: np.ndarray) -> int:
    """Index of the sample whose effective number of units is the (lower) median."""
    merged = merge_groups(encode(w1_DP, y_MD), collinear_groups(w1_DP, w2_DP))
    units = np.nan_to_num(spikiness(merged)["participation_ratio"], nan=np.inf)
    return int(np.argsort(units, kind="stable")[(len(units) - 1) // 2])


def sorted_units(h_P: np.ndarray, groups_P: np.ndarray) -> np.ndarray:
    """Order of units: groups of collinear units by falling energy, then units by falling h."""
    energy_P = h_P**2
    for group in np.unique(groups_P[groups_P >= 0]):
        energy_P[groups_P == group] = np.sum(h_P[groups_P == group] ** 2)
    return np.lexsort((-h_P, groups_P, -energy_P))


def draw(results: RunResults) -> Figure:
    """The figure for one run."""
    sigma = results.number("generalize/sigma")
    x_ND, exemplars_KD = results["generalize/x"], results["generalize/exemplars"]
    memorizing = results.pairs("generalize", "memorizing_")
    generalizing = results.pairs("generalize")

    figure = new_figure(TWO_COLUMNS, 2.5)
    panels = figure.subplot_mosaic(
        [["a", "c", "d"], ["b", "c", "d"]], width_ratios=[1.15, 1, 1], sharex=False
    )
    noisy_KD = noised_copies(exemplars_KD, sigma)[: len(exemplars_KD)]
    y_D = noisy_KD[typical_sample(*memorizing[0], noisy_KD)]
    _draw_bars(panels["a"], *memorizing[0], y_D, MEMORIZING)
    _draw_bars(panels["b"], *generalizing[0], y_D, GENERALIZING)
    top = max(panels[name].get_ylim()[1] for name in "ab")
    for name in "ab":
        panels[name].set_ylim(0, top)
    panel_title(panels["a"], "a", "memorizing net, one sample")
    panel_title(panels["b"], "b", "generalizing net, same sample")
    panels["a"].tick_params(labelbottom=False)
    panels["b"].set_xlabel("unit, sorted (line: collinear units)")

    found = [
        statistics(memorizing, noised_copies(exemplars_KD, sigma)),
        statistics(generalizing, noised_copies(x_ND, sigma)),
    ]
    width = memorizing[0][0].shape[1]
    _draw_histograms(panels["c"], [f["std"] for f in found])
    panel_title(panels["c"], "c", "the paper's measure")
    panels["c"].set_xlabel(
        f"std of $h$ over $P$ = {width} units\n(data units; varies with scale, $P$)"
    )
    _draw_histograms(panels["d"], [f["units"] for f in found])
    panel_title(panels["d"], "d", "split units merged")
    panels["d"].set_xlabel("effective number of units,\ncollinear ones merged")
    return figure


def _draw_bars(
    axes: Axes, w1_DP: np.ndarray, w2_DP: np.ndarray, y_D: np.ndarray, colour: str
) -> None:
    h_P = encode(w1_DP, y_D[None])[0]
    groups_P = collinear_groups(w1_DP, w2_DP)
    order = sorted_units(h_P, groups_P)
    h_P, groups_P = h_P[order], groups_P[order]
    places = np.arange(1, len(h_P) + 1)
    axes.bar(places, h_P, color=colour, width=0.7)
    axes.set_ylabel("$h$ (data units)")
    axes.set_xlim(0.3, len(h_P) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    height = 1.08 * h_P.max()
    for group in np.unique(groups_P[(groups_P >= 0) & (h_P > 0)]):
        members = places[(groups_P == group) & (h_P > 0)]
        if len(members) > 1:
            axes.plot(members[[0, -1]], [height, height], color=colour, solid_capstyle="butt")
    axes.set_ylim(0, 1.25 * h_P.max() if h_P.max() > 0 else 1)


def _draw_histograms(axes: Axes, values: list[np.ndarray]) -> None:
    """Two histograms on common bins, each labelled with its median."""
    finite = [v[np.isfinite(v)] for v in values]
    values = np.concatenate(finite)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    # Values that are equal up to rounding still get bins of visible width.
    spread = max(high - low, 1e-6 * max(abs(high), 1.0))
    bins = np.linspace(low, low + spread, BINS + 1)
    for v, (kind, colour) in zip(finite, KINDS, strict=True):
        share = np.full(len(v), 1 / max(len(v), 1))
        label = f"{kind}, median {np.median(v):.2f}" if len(v) else f"{kind}: all silent"
        axes.hist(
            v,
            bins,
            weights=share,
            histtype="stepfilled",
            facecolor=(colour, 0.35),
            edgecolor=colour,
            label=label,
        )
    axes.set_ylabel("share of noised samples")
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(loc="upper right", borderaxespad=0)
