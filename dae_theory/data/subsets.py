"""Parts of a data set: clusters by direction, and its most separable samples."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from dae_theory.checks import InputError, check_count, check_samples

MOST_EDGES = 500_000  # pairs of samples, those of the widest margins, that a search looks at
PAIRS_AT_ONCE = 2_000_000  # while they are looked for
MOST_TO_CLUSTER = 5000  # samples among which k-means looks for directions
MOST_SEARCHED = 10_000  # samples to choose from: time grows with the square of their number
SEARCH_BUDGET = 100_000  # maximal cliques visited before a search gives up
N_CLUSTERS = 3  # to look for where no labels are given


def spherical_kmeans(
    x_ND: Float[Array, "N D"], n_clusters: int, *, seed: int = 0, restarts: int = 8
) -> Int[np.ndarray, " N"]:
    """Cluster labels by direction (cosine), the best of several k-means++ starts.

    Centres are those of MOST_TO_CLUSTER samples at most, evenly taken. Fewer labels occur when
    there are fewer distinct directions than ``n_clusters``.
    """
    from scipy.cluster.vq import kmeans2, vq

    x_ND = check_samples(x_ND)
    check_count(n_clusters, "n_clusters")
    if n_clusters > len(x_ND):
        raise InputError(f"n_clusters: {n_clusters} clusters need as many samples, got {len(x_ND)}")
    norms = np.linalg.norm(x_ND, axis=1, keepdims=True)
    directions = x_ND / np.where(norms > 0, norms, 1.0)
    if not _has_more_rows(directions, n_clusters):
        return np.unique(_rounded(directions), axis=0, return_inverse=True)[1].ravel()
    every = max(1, -(-len(directions) // MOST_TO_CLUSTER))
    best_labels, best_cost = np.zeros(len(x_ND), int), np.inf
    for restart in range(restarts):
        rng = np.random.default_rng([seed, restart])
        centres, _ = kmeans2(directions[::every], n_clusters, minit="++", missing="warn", rng=rng)
        labels, distances = vq(directions, centres, check_finite=False)
        cost = np.sum(distances**2)
        if cost < best_cost and len(np.unique(labels)) == n_clusters:
            best_labels, best_cost = labels, cost
    return best_labels


def _rounded(directions: np.ndarray) -> np.ndarray:
    return directions.round(12) + 0.0  # −0 and 0 are one


def _has_more_rows(directions_ND: Float[np.ndarray, "N D"], count: int) -> bool:
    """More than ``count`` rows differ."""
    seen: set[bytes] = set()
    for row in directions_ND:
        seen.add(_rounded(row).tobytes())
        if len(seen) > count:
            return True
    return False


def cluster_labels(
    x_ND: Float[Array, "N D"],
    labels_N: Shaped[np.ndarray, " N"] | None = None,
    *,
    n_clusters: int = N_CLUSTERS,
) -> tuple[Int[np.ndarray, " N"], str]:
    """Labels 0 … K−1, and in words where they come from: the given ones, or by direction."""
    if labels_N is not None:
        _, relabelled = np.unique(labels_N, return_inverse=True)
        return relabelled, "clusters given by labels"
    k = min(n_clusters, len(x_ND))
    return spherical_kmeans(x_ND, k), f"{k} clusters found by spherical k-means"


class SeparableSubset(NamedTuple):
    """Indices of the chosen samples; their margin, the smallest of −x_iᵀx_j/max(‖x_i‖,‖x_j‖)
    over pairs and of ‖x_i‖, in data units (divide by σ for the gate margin z); and whether the
    search proved that no subset has a wider one."""

    indices: Int[np.ndarray, " n"]
    margin: float
    optimal: bool


class _SearchExhaustedError(Exception):
    """The clique search visited SEARCH_BUDGET cliques without an answer."""


def separable_subset(x_ND: Float[Array, "N D"], n: int) -> SeparableSubset:
    """The ``n`` samples with pairwise negative inner products and the widest gate margin.

    A clique search: samples are nodes, and a threshold on the pair margin is raised as far as
    an n-clique exists. Raises InputError when there is none, or when the search exceeds its
    budget before it finds one.
    """
    x_ND = check_samples(x_ND)
    check_count(n, "n")
    norms = np.linalg.norm(x_ND, axis=1)
    centred = np.linalg.norm(x_ND.mean(axis=0)) <= 1e-9 * norms.max()
    if n > len(x_ND):
        raise InputError(f"n: asked for {n} samples out of {len(x_ND)}")
    if n == 1:
        widest = int(np.argmax(norms))
        return SeparableSubset(np.array([widest]), float(norms[widest]), True)
    if n > x_ND.shape[1] + 1:
        raise InputError(
            f"n: {n} samples of {x_ND.shape[1]} features cannot have pairwise negative inner "
            f"products, at most {x_ND.shape[1] + 1} can; ask for fewer"
        )
    edges, complete = _separating_pairs(x_ND)

    # The widest margin is the shortest prefix of the edges with an n-clique: double from the
    # sparse side, where the search is cheap, then bisect.
    low, high, found = 0, min(n * (n - 1) // 2, len(edges)), None
    optimal = True
    try:
        while (found := _clique_of_size(edges[:high], n)) is None:
            if high == len(edges) and not complete:
                raise _SearchExhaustedError
            if high == len(edges):
                raise InputError(
                    f"n: no {n} of these {len(x_ND)} samples have pairwise negative inner "
                    f"products; {'' if centred else 'centre the data, or '}ask for fewer"
                )
            low, high = high, min(2 * high, len(edges))
        while high - low > 1:
            middle = (low + high) // 2
            candidate = _clique_of_size(edges[:middle], n)
            if candidate is None:
                low = middle
            else:
                high, found = middle, candidate
    except _SearchExhaustedError:
        if found is None:
            raise InputError(
                f"n: the search for {n} separable samples gave up after {SEARCH_BUDGET} cliques "
                f"or {MOST_EDGES} pairs; pass fewer samples"
            ) from None
        optimal = False
    indices = np.array(sorted(found))
    inside = _pair_margins(x_ND[indices], x_ND[indices])[np.triu_indices(n, 1)]
    return SeparableSubset(indices, float(inside.min()), optimal)


def _pair_margins(
    a_MD: Float[np.ndarray, "M D"], b_ND: Float[np.ndarray, "N D"]
) -> Float[np.ndarray, "M N"]:
    """Smallest of −aᵀb/max(‖a‖, ‖b‖), ‖a‖ and ‖b‖ of each pair: unit i sees sample j at
    x_iᵀx_j/‖x_i‖, so that the larger norm of a pair gives the smaller margin."""
    a_M, b_N = np.linalg.norm(a_MD, axis=1)[:, None], np.linalg.norm(b_ND, axis=1)
    larger = np.maximum(a_M, b_N)
    apart = -(a_MD @ b_ND.T) / np.where(larger > 0, larger, 1.0)
    return np.minimum(apart, np.minimum(a_M, b_N))


def _separating_pairs(x_ND: Float[np.ndarray, "N D"]) -> tuple[Int[np.ndarray, "E 2"], bool]:
    """Pairs of samples with a positive margin, the widest first, and whether these are all: at most
    MOST_EDGES are kept. Margins are computed for PAIRS_AT_ONCE pairs at a time."""
    rows_at_once = max(1, PAIRS_AT_ONCE // len(x_ND))
    margins, pairs, complete, smallest = np.zeros(0), np.zeros((0, 2), int), True, 0.0
    for first in range(0, len(x_ND), rows_at_once):
        found = _pair_margins(x_ND[first : first + rows_at_once], x_ND)
        rows, columns = np.nonzero((found > smallest) & _above_diagonal(found.shape, first))
        margins = np.concatenate([margins, found[rows, columns]])
        pairs = np.concatenate([pairs, np.stack([first + rows, columns], axis=1)])
        if len(margins) > MOST_EDGES:
            kept = np.sort(np.argpartition(-margins, MOST_EDGES)[:MOST_EDGES])
            margins, pairs, complete = margins[kept], pairs[kept], False
            smallest = np.min(margins)
    return pairs[np.argsort(-margins, kind="stable")], complete


def _above_diagonal(shape: tuple[int, int], first: int) -> Bool[np.ndarray, "M N"]:
    """Entries of M rows, from row ``first`` of a square matrix on, that are above its diagonal."""
    return np.arange(shape[1]) > np.arange(first, first + shape[0])[:, None]


def _clique_of_size(edges: Int[np.ndarray, "E 2"], n: int) -> list[int] | None:
    """Some n nodes that are pairwise adjacent, or None; raises when the budget is used up."""
    import networkx as nx

    # Members of an n-clique have degree n−1 inside it: peel off the rest first.
    graph = nx.Graph(_core(edges, n - 1).tolist())
    for visited, clique in enumerate(nx.find_cliques(graph)):
        if len(clique) >= n:
            return clique[:n]
        if visited >= SEARCH_BUDGET:
            raise _SearchExhaustedError
    return None


def _core(edges: Int[np.ndarray, "E 2"], degree: int) -> Int[np.ndarray, "F 2"]:
    """The edges left when nodes of a smaller degree go, until there are none."""
    while len(edges):
        kept_E = np.all(np.bincount(edges.ravel())[edges] >= degree, axis=1)
        if kept_E.all():
            break
        edges = edges[kept_E]
    return edges


def choose_samples(x_ND: Float[Array, "N D"], n: int) -> tuple[Int[np.ndarray, " n"], str]:
    """Indices of ``n`` samples, and in words which: the most separable ones, or the first ones if
    none are."""
    if n >= len(x_ND):
        return np.arange(len(x_ND)), f"all {len(x_ND)} samples"
    every = max(1, -(-len(x_ND) // MOST_SEARCHED))
    searched = np.arange(0, len(x_ND), every)
    try:
        subset = separable_subset(x_ND[searched], n)
    except InputError as error:
        return np.arange(n), f"the first {n} of {len(x_ND)} samples ({error})"
    best = "widest" if subset.optimal else "widest found"
    among = f"{len(x_ND)} samples" if every == 1 else f"one in {every} of {len(x_ND)} samples"
    return searched[subset.indices], (
        f"{n} of {among} chosen by search: pairwise negative inner products, {best} gate margin"
    )
