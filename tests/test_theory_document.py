"""Numbers that docs/THEORY.md prints and no claim measures, and its links, equations and claims.

Where the document says *test name*, the number comes from ``test_name`` here.
"""

import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.special import factorial, ndtr, owens_t

from dae_theory.data.mixtures import (
    equiangular_directions,
    random_rotation,
    separable_mixture,
    simplex,
)
from dae_theory.deep.ladder.store import Ladder
from dae_theory.minima.dead_units import first_variation
from dae_theory.minima.enclosure import prove_existence
from dae_theory.minima.existence import (
    BALL,
    MOMENTS,
    SUMS,
    hessian_lipschitz,
    rounding_allowance,
)
from dae_theory.minima.stationarity import remaining_decrease
from dae_theory.relu.gaussian_moments import pair_moments
from dae_theory.relu.units import spikiness
from dae_theory.solve.derivatives import expansion
from dae_theory.solve.local import solve_local_minimum
from dae_theory.statistics import share_interval
from dae_theory.theory.closed_forms import (
    block_eigenvalues,
    block_gains,
    predict_blocks,
    predict_memorization,
)
from dae_theory.theory.separability import gate_margin
from dae_theory.theory.spectrum import predict_curvature
from dae_theory.theory.symmetry import flat_directions
from proofs_checks.regimes import all_regimes

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "THEORY.md").read_text()
SOURCES = [
    path
    for package in ("dae_theory", "proofs_checks", "figures", "benchmarks")
    for path in sorted((ROOT / package).rglob("*.py"))
]
N, D, P = 24, 16, 12  # smaller problems are padded to this size: one compilation serves all
ROUNDING = 1e-14


# --- the document ---------------------------------------------------------------------------------


def anchors() -> list[str]:
    return re.findall(r'<a id="([^"]*)"></a>', TEXT)


def section(anchor: str) -> str:
    """From an anchor to the next heading's."""
    start = TEXT.index(f'<a id="{anchor}"></a>')
    end = re.search(r'<a id="(?!eq-)', TEXT[start + 1 :])
    return TEXT[start : start + 1 + end.start()] if end else TEXT[start:]


def assert_printed(anchor: str, printed: str, value: float):
    """The section prints this number, and the value rounds to it."""
    assert re.search(rf"(?<![\d.]){re.escape(printed)}(?![\d]|\.\d)", section(anchor)), printed
    number = Decimal(printed.replace("−", "-"))
    half_a_digit = 0.5 * 10.0 ** number.as_tuple().exponent
    assert abs(value - float(number)) <= half_a_digit * (1 + 1e-9), (printed, value)


def assert_says(anchor: str, phrase: str):
    """The section contains the phrase, wherever its lines break."""
    assert phrase in " ".join(section(anchor).split())


def test_anchors_are_unique():
    assert len(anchors()) == len(set(anchors())) > 60


def test_links_inside_the_document_resolve():
    links = re.findall(r"\]\(#([^)]*)\)", TEXT)
    assert len(links) > 100
    assert set(links) <= set(anchors())
    assert not re.findall(r"\]\((?!#|https://)", TEXT)


def test_links_from_code_and_pages_resolve():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = {
        f"{path.relative_to(ROOT)}: {anchor}": anchor
        for path in SOURCES + pages
        for anchor in re.findall(r"THEORY\.md#([\w.-]*[\w-])", path.read_text())
        if anchor != "anchor"
    }
    assert len(found) > 20
    assert [where for where, anchor in found.items() if anchor not in anchors()] == []


def test_equations_are_numbered_from_1_to_10():
    assert re.findall(r"\\tag\{(\d+)\}", TEXT) == [str(k) for k in range(1, 11)]
    for k in range(1, 11):
        assert rf"\tag{{{k}}}" in TEXT[TEXT.index(f'<a id="eq-{k}"></a>') :].split("$$")[1]


def test_claims_named_in_the_document_exist():
    ids = {
        claim.id
        for regime in all_regimes()
        for claims in (regime.claims, regime.data_claims or (), regime.weights_claims or ())
        for claim in claims
    }
    families = {claim.partition("/")[0] for claim in ids}
    named = [
        name
        for name in re.findall(r"`([a-z0-9.]+/[a-z0-9*/-]+)`", TEXT)
        if name.partition("/")[0] in families
    ]
    assert len(named) > 40
    for name in named:
        pattern = re.escape(name).replace(r"\*", ".*")
        assert any(re.fullmatch(pattern, claim) for claim in ids), name


def test_tests_and_the_document_name_each_other():
    named = {f"test_{name}" for name in re.findall(r"test\s`([a-z_]+)`", TEXT)}
    here = [name for name in globals() if name.startswith("test_")]
    numbers = here[here.index("test_factors") :]
    assert named <= set(numbers)
    assert [name for name in numbers if not name.startswith(tuple(named))] == []


def test_code_named_in_the_document_exists():
    code = "\n".join(path.read_text() for path in SOURCES)
    names = set(re.findall(r"(?<!test )(?<!test\n)`([a-z][a-z0-9_]*)`", TEXT))
    assert len(names) > 20
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []


def test_github_can_render_the_mathematics():
    """GitHub reads Markdown before mathematics: escaped punctuation, tags, links, and * and _ that
    open emphasis. An inline formula stands on one line, with no letter or hyphen before it."""
    text = re.sub(r"`[^`]*`", "", TEXT)
    display = re.findall(r"\$\$(.*?)\$\$", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    inline = re.findall(r"\$([^$]*)\$", text)
    assert text.count("$") == 2 * len(inline)
    around = re.split(r"\$[^$]*\$", text)
    assert not [before for before in around[:-1] if re.search(r"[^\s(]\Z", before)]
    assert not [after for after in around[1:] if re.match(r"[\w*]", after)]
    for formula in inline:
        assert formula == formula.strip(), formula
        assert "\n" not in formula, formula
    for formula in inline + display:
        assert not re.search(r"\\[^A-Za-z\s]|[*<>]|\]\(", formula), formula
        assert not re.search(r"(?<![A-Za-z0-9])_(?=\S)", formula), formula


# --- pieces of the theory, written out in NumPy ---------------------------------------------------


def density(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def flipped(z):
    """E 1{g>z}, E(g−z)_+ and E(g−z)_+² of a standard normal g."""
    return (
        ndtr(-z),
        density(z) - z * ndtr(-z),
        (1 + z**2) * ndtr(-z) - z * density(z),
    )


def expand(w1_DP, w2_DP, x_ND, sigma, lam):
    """Exact loss, gradient (2, D, P) and Hessian."""
    (n, d), p = x_ND.shape, w1_DP.shape[1]
    padded = np.zeros((2, D, P))
    padded[:, :d, :p] = w1_DP, w2_DP
    x, share = np.zeros((N, D)), np.zeros(N)
    x[:n, :d], share[:n] = x_ND, 1 / n
    loss, gradient, hessian = map(np.asarray, expansion(padded, x, share, float(sigma), float(lam)))
    hessian = hessian.reshape(2, D, P, 2, D, P)[:, :d, :p, :, :d, :p]
    return float(loss), gradient[:, :d, :p], hessian.reshape(2 * d * p, 2 * d * p)


def loss_by_formula(w1_DP, w2_DP, x_ND, sigma, lam):
    """(9), with Φ2 from SciPy's function of Owen."""
    norm_P = np.linalg.norm(w1_DP, axis=0)
    s_P = sigma * norm_P
    z_NP = x_ND @ w1_DP / s_P
    second_PP = np.diag(s_P**2 * np.mean((1 + z_NP**2) * ndtr(z_NP) + z_NP * density(z_NP), axis=0))
    i, j = np.triu_indices(len(s_P), 1)
    h, k = z_NP[:, i], z_NP[:, j]
    rho = np.clip((w1_DP.T @ w1_DP / np.outer(norm_P, norm_P))[i, j], -1 + 1e-15, 1 - 1e-15)
    q = np.sqrt(1 - rho**2)
    t_h, t_k = (h - rho * k) / q, (k - rho * h) / q
    both = (ndtr(h) + ndtr(k) - (h * k < 0)) / 2 - owens_t(h, t_k / h) - owens_t(k, t_h / k)
    moment = (h * k + rho) * both + h * density(k) * ndtr(t_h) + k * density(h) * ndtr(t_k)
    moment += q * density(h) * density(t_k)
    second_PP[i, j] = second_PP[j, i] = s_P[i] * s_P[j] * np.mean(moment, axis=0)
    mean_NP = s_P * (z_NP * ndtr(z_NP) + density(z_NP))
    cross = np.mean(np.sum(mean_NP * (x_ND @ w2_DP), axis=1))
    power = np.mean(np.sum(x_ND**2, axis=1))
    decay = lam * (np.sum(w1_DP**2) + np.sum(w2_DP**2))
    return np.sum(w2_DP.T @ w2_DP * second_PP) - 2 * cross + power + decay


def clusters():
    """24 samples in three tight clusters of rank 5, noise level."""
    mixture = separable_mixture(3, D, rank=4, beta=-0.5, alpha=0.08)
    return (*mixture.sample(0, N), 0.02)


def predict_clusters(widths, share=0.3):
    """Samples, σ, λ and (4): nλ is ``share`` of the smallest eigenvalue that a block keeps."""
    x_ND, labels_N, sigma = clusters()
    spectra = block_eigenvalues(x_ND, labels_N)
    lam = share * min(s[width - 1] for s, width in zip(spectra, widths, strict=True)) / N
    return x_ND, sigma, lam, predict_blocks(x_ND, labels_N, widths, sigma, lam)


def stored_simplex(n, z, d=D, decay=0.1):
    """Simplex of n unit samples, σ for margin z, λ with nλ = ``decay``, and (5)."""
    x_ND, sigma, lam = simplex(n, d).x, 1 / (n - 1) / z, decay / n
    return x_ND, sigma, lam, predict_memorization(x_ND, sigma, lam)


# --- blocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3, 6])
def test_factors(rank):
    """Descent over factors of a given rank ends at the operator (2), with the loss (3)."""
    s, n, tau, lam = np.array([5, 2, 1, 0.5, 0.2, 0.1]), 10, 0.7, 0.03
    shape = 2, len(s), rank

    def loss(flat):
        a, b = flat.reshape(shape)
        m = b @ a.T
        residual = (m - np.eye(len(s))) * s
        value = np.sum(residual * (m - np.eye(len(s)))) + tau * np.sum(m**2)
        slope = 2 * (residual + tau * m) / n
        gradient = np.stack([slope.T @ b, slope @ a]) + 2 * lam * flat.reshape(shape)
        return value / n + lam * np.sum(flat**2), gradient.ravel()

    start = np.random.default_rng(0).standard_normal(np.prod(shape))
    found = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-12, "maxiter": 2000})
    gains = np.where(np.arange(len(s)) < rank, block_gains(s, n * lam, tau), 0)
    assert np.sum(gains > 0) == min(rank, 4)
    predicted = (np.sum(s) - np.sum(gains * (s - n * lam))) / n
    assert_says("thm-3.1", "equal to 1e-14")
    assert abs(found.fun - predicted) < ROUNDING
    a, b = found.x.reshape(shape)
    np.testing.assert_allclose(b @ a.T, np.diag(gains), atol=1e-6)


def test_rotations():
    """Relative gradient and gate margin of (4) for an even, no and a random rotation."""
    x_ND, sigma, lam, p = predict_clusters((4, 4, 4))
    roots = [u * np.sqrt(m) for u, m in zip(p.directions, p.gains, strict=True)]

    def measure(w_DP):
        z = gate_margin(w_DP, x_ND, p.labels, p.blocks, sigma)
        gradient = expand(w_DP, w_DP, x_ND, sigma, lam)[1]
        return z, np.linalg.norm(gradient) / np.mean(np.sum(x_ND**2, axis=1))

    random = np.hstack([root @ random_rotation(seed, 4).T for seed, root in enumerate(roots)])
    for printed, w_DP in {
        ("11.5", None): p.w1,
        ("-5.9", ".040"): np.hstack(roots),
        ("-49", ".73"): random,
    }.items():
        z, relative = measure(w_DP)
        assert_printed("rotations", printed[0], z)
        if printed[1]:
            assert_printed("rotations", printed[1], relative)
            assert_printed("errata", printed[1], relative)
        else:
            assert relative < ROUNDING


def test_flips():
    """The gradient at (5) to first order in flips."""

    def first_order(p, x_ND, sigma):
        w_DN, m_N, n = p.w1, p.gains, len(x_ND)
        nu_N = sigma * np.linalg.norm(w_DN, axis=0)
        unit_ND = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
        gradient = np.zeros_like(w_DN)
        for j in range(n):
            for i in set(range(n)) - {j}:
                w, x, u = w_DN[:, j], x_ND[i], unit_ND[i]
                tail, first, second = flipped(-w @ x / nu_N[j])
                gradient[:, j] -= (1 - m_N[i]) * nu_N[j] * first * x
                gradient[:, j] += sigma**2 * m_N[i] * tail * u * (u @ w) + nu_N[j] ** 2 * second * w
                other = w_DN[:, i]  # unit i, active on sample j
                tail, first, _ = flipped(-other @ x_ND[j] / nu_N[i])
                along = nu_N[i] * first * (w @ x_ND[j]) + sigma**2 * tail * (other @ w)
                gradient[:, j] += along * other
        return 2 / n * gradient

    for z, printed in ((2, "4.8e-4"), (3, "5.4e-7")):
        x_ND, sigma, lam, p = stored_simplex(4, z)
        gradient = expand(p.w1, p.w2, x_ND, sigma, lam)[1][1]
        error = np.linalg.norm(gradient - first_order(p, x_ND, sigma)) / np.linalg.norm(gradient)
        assert_printed("remainder", printed, error)


def leak_by_formula(p, x_ND, sigma):
    """The sum over gates of what a wrong one adds to the loss."""
    leak = 0.0
    for x, k in zip(x_ND, p.labels, strict=True):
        for w, block in zip(p.w1.T, p.blocks, strict=True):
            sign = 1 if block == k else -1
            norm = np.linalg.norm(w)
            nu, m_DD = sigma * norm, p.operator(k)
            tail, first, second = flipped(sign * (w @ x) / nu)
            leak += norm**2 * nu**2 * second - 2 * nu * first * (w @ (x - m_DD @ x))
            leak -= sign * 2 * sigma**2 * (w @ m_DD @ w) * tail
    return leak / len(x_ND)


def test_leak():
    """Exact loss minus (3) against the formula, where flips cost and where they pay."""
    x_ND, sigma, lam, p = stored_simplex(8, 3)
    excess = expand(p.w1, p.w2, x_ND, sigma, lam)[0] - p.loss
    assert_printed("leak", "6.644e-6", excess)
    assert_printed("leak", "3.2e-5", abs(leak_by_formula(p, x_ND, sigma) / excess - 1))

    means, axes = equiangular_directions(2, 2, -0.3), equiangular_directions(2, 2, 0.6)
    along = np.random.default_rng(2).standard_normal((2, 8))
    along *= 0.15 / np.sqrt(np.mean(along**2, axis=1, keepdims=True))
    labels_N = np.repeat([0, 1], 8)
    x_ND = np.hstack([means[labels_N], along.reshape(-1, 1) * axes[labels_N]])
    lam = 0.3 * min(s[1] for s in block_eigenvalues(x_ND, labels_N)) / 16
    sigma = 0.05
    for _ in range(30):  # until z is 3
        sigma *= predict_blocks(x_ND, labels_N, (2, 2), sigma, lam).margin / 3
    p = predict_blocks(x_ND, labels_N, (2, 2), sigma, lam)
    excess = expand(p.w1, p.w2, x_ND, sigma, lam)[0] - p.loss
    assert_printed("leak", "−1.548e-8", excess)
    assert abs(leak_by_formula(p, x_ND, sigma) / excess - 1) < 1e-7
    assert_says("leak", "less than 1e-7 of it")


def test_integral():
    """∫ L/σ² dσ of the formula, and of the net with its gates."""
    x_ND = np.random.default_rng(0).uniform(0.8, 1.5, 4)[:, None] * simplex(4, D).x
    square_N = np.sum(x_ND**2, axis=1)

    def net(sigma):
        w_DN = (x_ND / np.sqrt(square_N + sigma**2)[:, None]).T
        return loss_by_formula(w_DN, w_DN, x_ND, sigma, 0.0) / sigma**2

    formula = quad(lambda sigma: np.mean(square_N / (sigma**2 + square_N)), 0, np.inf)[0]
    assert_printed("integral-identity", "1.5217", formula)
    assert formula == pytest.approx(np.pi / 2 * np.mean(np.sqrt(square_N)), rel=1e-10)
    assert_printed("integral-identity", "1.965", quad(net, 0, np.inf)[0])


# --- moments --------------------------------------------------------------------------------------


def test_moments():
    """(9) and the loss made of it against quadrature and against SciPy."""
    h, k, rho = np.random.default_rng(0).uniform([[-3], [-3], [-0.9]], [[3], [3], [0.9]], (3, 100))
    q = np.sqrt(1 - rho**2)
    moments = pair_moments(h, k, rho, q)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    g = (12 + k) / 2 * (nodes[:, None] + 1) - k  # where k + g is positive, up to 12
    mean = h + rho * g
    given = mean * ndtr(mean / q) + q * density(mean / q)
    relu = weights @ (density(g) * (k + g) * given) * (12 + k) / 2
    assert np.max(np.abs(relu - moments.relu_relu) / np.maximum(relu, 1)) < ROUNDING
    angle = np.arcsin(rho) / 2 * (nodes[:, None] + 1)
    exponent = (h**2 + k**2 - 2 * h * k * np.sin(angle)) / (2 * np.cos(angle) ** 2)
    both = ndtr(h) * ndtr(k) + np.arcsin(rho) / 2 * (weights @ np.exp(-exponent)) / (2 * np.pi)
    assert np.max(np.abs(both - moments.both_active)) < 1e-15
    assert_says("exact-loss", "equal to 1e-14")
    assert_says("bivariate-normal", "equal to 1e-15")

    random = np.random.default_rng(1)
    w1_DP, w2_DP, x_ND = (random.standard_normal(shape) for shape in ((4, 3), (4, 3), (5, 4)))
    by_formula = loss_by_formula(w1_DP, w2_DP, x_ND, 0.3, 0.1)
    assert expand(w1_DP, w2_DP, x_ND, 0.3, 0.1)[0] == pytest.approx(by_formula, rel=1e-13)


MEHLER_ROWS = re.findall(r"^\| (.\d?) to (\d) \| (\S+) \| (.*) \|$", section("mehler"), re.M)


def test_mehler():
    """The table of truncation errors, on a grid of margins."""

    def coefficient(k, z):
        if k == 0:
            return z * ndtr(z) + density(z)
        if k == 1:
            return ndtr(z)
        hermite = np.polynomial.hermite_e.hermeval(z, np.eye(k - 1)[k - 2])
        return (-1) ** k * hermite * density(z)

    assert len(MEHLER_ROWS) == 5
    for low, high, cosine, errors in MEHLER_ROWS:
        ends, rho = [float(end.replace("−", "-")) for end in (low, high)], float(cosine)
        h, k = np.meshgrid(*2 * [np.linspace(*ends, 41)])
        exact = pair_moments(h, k, np.full_like(h, rho), np.full_like(h, np.sqrt(1 - rho**2)))
        terms = [rho**j / factorial(j) * coefficient(j, h) * coefficient(j, k) for j in range(17)]
        for count, printed in zip((4, 8, 12, 16), errors.split(" | "), strict=True):
            error = np.max(np.abs(sum(terms[: count + 1]) / exact.relu_relu - 1))
            assert_printed("mehler", printed, error)


# --- minima ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "inside", "outside"),
    [(1.0, ".33010", ".26186"), (0.5, ".20827", ".17492"), (0.3, ".10076", ".10066")],
)
def test_span(sigma, inside, outside):
    """One sample: W1 leaves the span of the samples, W2 does not."""
    lam = 0.01

    def best(d):
        """Of four starts, in d dimensions of which the sample spans one."""
        x_ND = np.eye(1, d)
        random = np.random.default_rng(0)
        found = [
            minimize(
                lambda flat: loss_by_formula(*flat.reshape(2, d, 2), x_ND, sigma, lam),
                0.7 * random.standard_normal(4 * d),
                options={"gtol": 1e-7},
            )
            for _ in range(4)
        ]
        lowest = min(found, key=lambda end: end.fun)
        return lowest.fun, lowest.x.reshape(2, d, 2), x_ND

    assert_printed("span", inside, best(1)[0])
    loss, (w1_DP, w2_DP), x_ND = best(2)
    assert_printed("span", outside, loss)
    exact, gradient, hessian = expand(w1_DP, w2_DP, x_ND, sigma, lam)
    assert exact == pytest.approx(loss, rel=1e-12)
    assert np.linalg.norm(gradient) < 1e-6
    assert np.linalg.eigvalsh(hessian)[0] > 1e-3
    assert np.linalg.norm(w2_DP[1:]) < 1e-6
    if sigma == 1:
        share = np.linalg.norm(w1_DP[1]) / np.linalg.norm(w1_DP)
        assert_printed("span", "93", 100 * share)


def test_span_at_little_noise():
    """At σ = .2 the best loss in two dimensions is that in the span."""
    x_ND, random, losses = np.eye(1, 2), np.random.default_rng(0), []
    for _ in range(4):
        end = minimize(
            lambda flat: loss_by_formula(*flat.reshape(2, 2, 2), x_ND, 0.2, 0.01),
            0.7 * random.standard_normal(8),
            options={"gtol": 1e-7},
        )
        losses.append((end.fun, np.linalg.norm(end.x.reshape(2, 2, 2)[0, 1])))
    loss, outside = min(losses)
    assert outside < 1e-5
    assert loss == pytest.approx(predict_memorization(x_ND, 0.2, 0.01).loss, rel=1e-4)
    assert_says("span", r"at $\sigma=.2$ the minimum")


@pytest.mark.parametrize(("widths", "zeros"), [((4, 4, 4), 18), ((3, 4, 5), 19)])
def test_spectrum(widths, zeros):
    """All Hessian eigenvalues at (4) against those with frozen gates."""
    x_ND, sigma, lam, p = predict_clusters(widths)
    predicted = predict_curvature(p, x_ND)
    exact = np.linalg.eigvalsh(expand(p.w1, p.w2, x_ND, sigma, lam)[2])
    difference = np.max(np.abs(exact - predicted.sorted_values())) / exact[-1]
    assert_says("spectrum", "all 384 eigenvalues to 2e-14")
    assert difference < 2 * ROUNDING  # sums in another order, with more threads, are 1.3e-14 off
    ranks = [int(np.sum(m > 0)) for m in p.gains]
    assert flat_directions(widths, ranks) == predicted.count_below(1e-3 * lam) == zeros
    assert np.sum(np.abs(exact) < 1e-3 * lam) == zeros
    assert_says("spectrum", f"{zeros} ")


def test_spectrum_by_the_table():
    """The eigenvalues of the table, written out, are those of `predict_curvature`."""
    x_ND, sigma, lam, p = predict_clusters((3, 4, 5))
    values = []
    for k, (u_DR, m) in enumerate(zip(p.directions, p.gains, strict=True)):
        members_ND = x_ND[p.labels == k]
        s_D = np.zeros(D)
        squares = np.linalg.svd(members_ND, compute_uv=False) ** 2
        s_D[: len(squares)] = squares
        n, r, width = len(x_ND), int(np.sum(m > 0)), u_DR.shape[1]
        width = int(np.sum(p.blocks == k))
        t_D = (s_D + len(members_ND) * sigma**2) / n
        values += [4 * lam] * r + list(4 * (s_D[:r] - n * lam) / n)
        for i in range(r):
            for other in range(i + 1, r):
                mean = (m[i] + m[other]) / 2
                a, b = mean * (t_D[i] + t_D[other]), mean * (t_D[i] - t_D[other])
                root = np.hypot(lam, b)
                values += [0, 4 * lam, 2 * (a + lam + root), 2 * (a + lam - root)]
        values += [0, 4 * lam] * (r * (width - r))
        for i in range(r, D):
            for kept in range(r):
                middle = lam + m[kept] * t_D[i] + s_D[kept] / n
                root = np.hypot(lam + m[kept] * t_D[i] - s_D[kept] / n, 2 * s_D[i] / n)
                values += [middle + root, middle - root]
            values += [2 * (lam + s_D[i] / n), 2 * (lam - s_D[i] / n)] * (width - r)
    expected = predict_curvature(p, x_ND).sorted_values()
    np.testing.assert_allclose(np.sort(values), expected, atol=ROUNDING * expected[-1])


def test_stationarity():
    x_ND, sigma, lam, p = stored_simplex(4, 6.0)
    weights = np.stack([p.w1, p.w2])
    rng = np.random.default_rng(0)
    moved = weights + 0.1 * np.sqrt(np.mean(weights**2)) * rng.standard_normal(weights.shape)
    predicted = remaining_decrease(*moved, x_ND, sigma, lam)
    lost = predicted.loss - solve_local_minimum(*moved, x_ND, sigma, lam).loss
    assert_printed("stationarity", ".0494", predicted.decrease / predicted.loss)
    assert_printed("stationarity", ".0488", lost / predicted.loss)


def test_lipschitz():
    """The proved bound on the change of the Hessian, and the largest change found."""
    x_ND, sigma, lam, p = stored_simplex(4, 20 / 3, decay=0.04)
    assert_printed("newton-kantorovich", "6.7", p.margin)
    ball = BALL * np.min(np.linalg.norm(p.w1, axis=0))
    proved = hessian_lipschitz(p.w1, p.w2, x_ND, sigma, ball)
    assert_printed("newton-kantorovich", "5.6", proved)
    in_balls = prove_existence(p.w1, p.w2, x_ND, sigma, lam).lipschitz
    assert_printed("enclosure", "5.6", proved)
    assert_printed("enclosure", "6.8", in_balls)
    direction = np.zeros((2, D, 4))
    direction[:, :, 0] = x_ND[0] / np.sqrt(2)
    changed = np.stack([p.w1, p.w2]) + ball * direction
    hessians = (expand(*w, x_ND, sigma, lam)[2] for w in (changed, (p.w1, p.w2)))
    found = np.linalg.norm(np.subtract(*hessians), 2) / ball
    assert_printed("newton-kantorovich", "2.1", found)
    assert_printed("newton-kantorovich", "2.7", proved / found)


def test_rounding():
    x_ND, sigma, lam, p = stored_simplex(4, 20 / 3, decay=0.04)
    allowance, _ = rounding_allowance(p.w1, p.w2, x_ND, sigma, lam)
    assert_printed("rounding-allowance", "8.4e-13", allowance)
    assert_says("rounding-allowance", f"m={SUMS}(d+p)+n+{MOMENTS}")
    assert_says("rounding-allowance", f"accurate to ${MOMENTS}u$")


# --- dead units -----------------------------------------------------------------------------------


def pulls(u_DM, p, x_ND, sigma):
    """g(u) of (10), exact, for 64 directions."""
    (n, d), units = x_ND.shape, p.w1.shape[1]
    assert u_DM.shape == (d, 64)
    u, w1, w2 = np.zeros((D, 64)), np.zeros((D, P)), np.zeros((D, P))
    x, share = np.zeros((N, D)), np.zeros(N)
    u[:d], w1[:d, :units], w2[:d, :units] = u_DM, p.w1, p.w2
    x[:n, :d], share[:n] = x_ND, 1 / n
    return np.asarray(first_variation(u, w1, w2, x, sigma, share))[:d]


def frozen_pulls(u_DM, p, x_ND, lam, dropped_too):
    """λ Σ_{k∈A} (Σ_kept uuᵀ + Σ_dropped (s/nλ) uuᵀ) u, with or without the dropped."""
    g_DM = np.zeros_like(u_DM)
    for k in np.unique(p.labels):
        members_ND = x_ND[p.labels == k]
        s, vectors = np.linalg.eigh(members_ND.T @ members_ND)
        kept = np.arange(len(s))[::-1] < np.sum(p.gains[k] > 0)
        share = np.where(kept, 1.0, s / (len(x_ND) * lam) if dropped_too else 0.0)
        active_M = members_ND.mean(axis=0) @ u_DM > 0
        g_DM += active_M * (vectors @ (share[:, None] * (vectors.T @ u_DM)))
    return lam * g_DM


@pytest.mark.parametrize(
    ("widths", "share", "printed"), [((3, 3, 3), 1.5, ".36"), ((2, 2, 2), 0.1, "4.3")]
)
def test_pull_of_dropped_directions(widths, share, printed):
    """Directions dropped by the threshold pull less than kept ones, by the width more."""
    x_ND, sigma, lam, p = predict_clusters(widths, share)
    u_DM = np.random.default_rng(0).standard_normal((D, 6400))
    u_DM /= np.linalg.norm(u_DM, axis=0)
    towards = np.sign([x_ND[p.labels == k].mean(axis=0) @ u_DM for k in p.labels])
    u_DM = u_DM[:, np.all(x_ND @ u_DM * towards >= 8 * sigma, axis=0)][:, :64]
    exact = np.linalg.norm(pulls(u_DM, p, x_ND, sigma), axis=0) / lam
    full, kept = (
        np.linalg.norm(frozen_pulls(u_DM, p, x_ND, lam, dropped_too), axis=0) / lam
        for dropped_too in (True, False)
    )
    assert np.max(np.abs(exact - full)) < 1e-11
    assert_says("dead-units", "errors below 1e-11")
    assert_printed("dead-units", printed, np.max(np.abs(exact - kept)))


def test_pull_near_gates():
    """The pull at (5) with the new unit's gates rounded by noise, for every direction."""
    x_ND, sigma, lam, p = stored_simplex(8, 10)
    random = np.random.default_rng(0)
    u_DM = random.standard_normal((D, 64))
    near = x_ND[np.arange(64) % 8].T  # half of the directions: within a few σ of a sample's gate
    u_DM -= near * np.sum(near * u_DM, axis=0)
    u_DM /= np.linalg.norm(u_DM, axis=0)
    u_DM += near * np.where(np.arange(64) < 32, sigma, 1.0) * random.uniform(-2, 2, 64)
    u_DM /= np.linalg.norm(u_DM, axis=0)
    c_NM = x_ND @ u_DM
    z_NM = c_NM / sigma
    rounding = sigma * (1 + sigma**2 / (8 * lam)) / (1 + sigma**2)
    bracket_NM = c_NM * ndtr(z_NM) + rounding * density(z_NM)
    assert np.max(np.abs(bracket_NM - np.maximum(c_NM, 0))) > 0.2 * sigma
    assert np.max(np.abs(pulls(u_DM, p, x_ND, sigma) / lam - x_ND.T @ bracket_NM)) < ROUNDING
    assert_says("dead-units", "equal to 1e-14")


def test_positive_cosine():
    """Two samples at a positive cosine: the minimum is (4) with both in one cluster."""
    sigma, lam, one_cluster = 0.02, 0.01, np.zeros(2, int)
    x_ND = equiangular_directions(2, 2, 0.3)
    p, m = predict_memorization(x_ND, sigma, lam), (1 - 2 * lam) / (1 + sigma**2)
    loss = expand(p.w1, p.w2, x_ND, sigma, lam)[0]
    formula = p.loss + 0.09 * m * (3 * m - 2) + 1.18 * m**2 * sigma**2
    assert_printed("positive-cosine", ".1232", loss)
    assert abs(loss - formula) < 1e-11
    block = predict_blocks(x_ND, one_cluster, (2,), sigma, lam)
    loss, gradient, hessian = expand(block.w1, block.w2, x_ND, sigma, lam)
    assert_printed("positive-cosine", ".0403", loss)
    assert abs(loss - block.loss) < ROUNDING
    assert np.linalg.norm(gradient) < ROUNDING
    assert np.linalg.eigvalsh(hessian)[0] > -1e-10  # zero for the rotation
    assert_says("positive-cosine", "to 1e-14, gradient below 1e-14")

    x_ND = equiangular_directions(2, 2, 0.1)
    block = predict_blocks(x_ND, one_cluster, (2,), sigma, lam)
    start = predict_memorization(x_ND, sigma, lam)

    def objective(flat):
        loss, gradient, _ = expand(*flat.reshape(2, 2, 2), x_ND, sigma, lam)
        return loss, gradient.ravel()

    end = minimize(objective, np.stack([start.w1, start.w2]).ravel(), jac=True, tol=1e-9)
    assert_printed("positive-cosine", "2.6", block.margin)
    assert_printed("positive-cosine", ".04036", block.loss)
    assert_printed("positive-cosine", ".04028", end.fun)


# --- representations, diffusion, copies -----------------------------------------------------------


def test_spike_over_block():
    """Standard deviation over units of a spike, relative to that of an even block."""
    p, width = 12, 4
    spike, block = np.zeros(p), np.zeros(p)
    spike[0], block[:width] = 1.0, 1 / np.sqrt(width)
    ratio = float(spikiness(spike)["std"] / spikiness(block)["std"])
    assert ratio == pytest.approx(np.sqrt((p - 1) / (p - width)), rel=1e-6)
    assert_printed("representation", "1.17", ratio)


def test_between():
    """Share of starts that are still between two images, by the law and by Heun's method."""
    cosine, start, end = -0.25, 3.0, 0.05
    fall = end**2 * (1 + start**2) / ((1 + end**2) * start**2)
    wedge = np.sqrt((1 + cosine) / (1 - cosine)) * fall ** abs(cosine)
    assert_printed("two-images", ".05598", np.arctan(wedge) / np.pi)
    images = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]])
    angle = 2 * np.pi * (np.arange(20_000) + 0.5) / 20_000
    y = start * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def slope(y, sigma):
        return (y - np.maximum(y @ images.T, 0) @ images / (1 + sigma**2)) / sigma

    levels = np.geomspace(start, end, 201)
    for sigma, following in pairwise(levels):
        first = slope(y, sigma)
        second = slope(y + (following - sigma) * first, following)
        y = y + (following - sigma) * (first + second) / 2
    assert_printed("two-images", ".0560", np.mean(np.all(y @ images.T > 0, axis=1)))


def test_deep_gain():
    """Gain of one path through L matrices, by descent over its weights."""
    square, variance, decay = 1.0, 0.1, 0.05  # n = 1
    for layers, printed in ((2, ".8636"), (3, ".8613"), (4, ".8601")):

        def loss(weights):
            gain = np.prod(weights)
            fit = (1 - gain) ** 2 * square + variance * gain**2
            return fit + decay * np.sum(weights**2)

        # Weights that start unequal end balanced.
        end = minimize(loss, np.linspace(0.8, 1.2, layers), tol=1e-12)
        np.testing.assert_allclose(end.x, end.x[0], rtol=1e-4)
        assert_printed("deep-homogeneous", printed, np.prod(end.x))


def test_ladder():
    """Numbers of the ladder in the package."""
    ladder, few, most = Ladder.load(), ("fashion_mnist", 30), ("fashion_mnist", 10_000)

    def mean(quantity, *rung):
        return np.mean(ladder.values(quantity, *rung))

    def printed_two_digits(values, digits=2):
        for value in values:
            shown = f"{value:.{digits}f}"
            assert_printed("deep-homogeneous", shown.removeprefix("0"), value)

    for depth in (1, 2, 3, 4):
        printed_two_digits([mean("training/trace", *few, "plain", depth)])
        printed_two_digits([mean("training/trace", *most, "plain", depth)], 1)
        sides = [mean(f"training/{side}", *few, "plain", depth) for side in ("left", "right")]
        printed_two_digits(sides)
    kinds = ("homogeneous f_emp", "biases", "conditioned shifts", "attention", "smooth")
    printed_two_digits(mean("training/gain", *few, kind) for kind in kinds)
    printed_two_digits(mean("training/gain", *few, k) for k in ("convolution", "rms norm", "skip"))
    for kind in ("plain", "local PCA"):
        cosine = "held_out/second moment/{}/cosine"
        printed_two_digits(mean(cosine.format(k), *most, kind) for k in ("1000", "label", "all"))
        printed_two_digits([mean("held_out/second moment/1000/distance", *most, kind)])
    printed_two_digits(mean("training/gain", "faces", 30, "plain", d) for d in (2, 3, 4))
    best = {}
    for n in (30, 100, 300, 1000, 3000, 10_000):
        there = [k for k in (1, 10, 100, 1000) if k <= n]
        cosines = [mean(f"held_out/second moment/{k}/cosine", "fashion_mnist", n) for k in there]
        best[n] = there[int(np.argmax(cosines))]
    assert best == {30: 10, 100: 10, 300: 100, 1000: 100, 3000: 1000, 10_000: 1000}


def test_gap_ratio():
    """Chance of a gap ratio below 1/3 in five dimensions."""
    assert_printed("copies", ".0041", 3**-5.0)
    random = np.random.default_rng(0)
    tree = cKDTree(random.standard_normal((1000, 5)))
    first, second = tree.query(random.standard_normal((100_000, 5)), 2)[0].T
    assert_printed("copies", ".0042", np.mean(3 * first < second))


def test_clopper_pearson():
    """Upper end of the exact interval for no copy among 1,000."""
    interval = share_interval(0, 1000)
    assert interval.low == 0
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 1000), rel=1e-9)
    assert_printed("copies", ".0037", interval.high)
