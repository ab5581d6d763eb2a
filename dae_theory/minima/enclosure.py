"""Newton-Kantorovich as a proof: gradient, Hessian and K enclosed by ball arithmetic (Arb).

Weights, samples, σ and λ are the float64 numbers they are. Moments of single units and of pairs
are those of docs/THEORY.md#enclosure, P(both active) by rigorous quadrature; every result is an
interval that contains the exact number.
"""

from functools import reduce
from itertools import combinations
from typing import NamedTuple

import flint
import numpy as np
import scipy.linalg
from flint import acb, arb, arb_mat
from jaxtyping import Array, Float

from dae_theory.checks import InputError, check_noise_and_decay, check_samples, check_weights
from dae_theory.minima.existence import (
    Existence,
    Sizes,
    ball_radius,
    live,
    smaller_root,
    third_derivative,
)
from dae_theory.theory.symmetry import gate_groups, rotation_directions

LARGEST_ENCLOSED = 512  # rows up to which the Hessian is enclosed
PAIRS_ENCLOSED = 10_000  # of units, counted for every sample, whose moments are
_BITS = 128
_NEWTON_STEPS, _EASY = 5, 1e-3  # at most, and h at which they end
_BITS_OF_SPAN = 512  # closed forms are samples but for rounding, which must be told apart

Balls = np.ndarray  # of flint.arb objects


def prove_existence(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
) -> Existence:
    """`existence.newton_kantorovich` with everything enclosed: a true local minimizer of (1) over
    the live units exists within ``radius`` of these very float64 numbers.

    Where units are active on the same samples, it is a minimizer on the affine space through them
    orthogonal to `symmetry.rotation_directions`: stationary but for rotations inside blocks.
    ``grad_norm`` and ``lipschitz`` are upper bounds; ``curvature`` is a lower bound of the
    smallest eigenvalue on that space, or −∞ where it could not be told to be positive. Takes
    seconds; the proof is docs/THEORY.md#enclosure.

    Raises:
      InputError: for bad input, collinear units, samples and weights that depend on each other
        exactly, or too many rows or pairs.
    """
    point = _checked(w1_DP, w2_DP, x_ND, sigma, lam)
    with flint.ctx.workprec(_BITS):
        w1, w2, x = _in_span(point)
        flat = rotation_directions(_floats(w1), _floats(w2), gate_groups(point.w1, point.x))
        lipschitz = third_derivative(_sizes(w1, w2, x, sigma, point.ball), _largest)
        derivatives = enclose_derivatives(w1, w2, x, sigma, lam)
        return _existence(point, derivatives, lipschitz, flat.transpose(0, 1, 3, 2), arb(0))


def prove_minimizer(
    w1_DP: Float[Array, "D P"],
    w2_DP: Float[Array, "D P"],
    x_ND: Float[Array, "N D"],
    sigma: float,
    lam: float,
) -> Existence:
    """A strict local minimizer of (1) over the live units, rotations inside blocks included, exists
    within ``radius`` of these float64 numbers.

    Curvature along rotations is so small that float64 weights are too far from the minimizer for
    the theorem. Newton steps on the enclosed gradient lead to weights of `_BITS` bits that are near
    enough; ``radius`` counts the way there, all else is as `prove_existence` says, of that point.
    Infinite where the Hessian at the start, or in the end what the theorem asks, is not positive.
    Takes as long as three or four of `prove_existence`; docs/THEORY.md#enclosure.

    Raises:
      InputError: as `prove_existence`.
    """
    point = _checked(w1_DP, w2_DP, x_ND, sigma, lam)
    with flint.ctx.workprec(_BITS):
        w1, w2, x = _in_span(point)
        start = at = np.stack([w1.T, w2.T])
        for _ in range(_NEWTON_STEPS + 1):
            w1, w2 = at[0].T, at[1].T
            lipschitz = third_derivative(_sizes(w1, w2, x, sigma, point.ball), _largest)
            gradient, hessian = enclose_derivatives(w1, w2, x, sigma, lam)
            size = _norm(gradient.ravel())
            matrix = _floats(hessian).reshape(2 * [gradient.size])
            lowest = np.linalg.eigvalsh(matrix)[0]
            if not lowest > 0 or lipschitz * size <= _EASY * lowest**2:
                break
            step = np.linalg.solve(matrix, _floats(gradient / size).ravel())
            if float(size) * np.linalg.norm(step) > point.ball:
                break
            at = _each(arb.mid, at - size * _balls(step.reshape(at.shape)))
        return _existence(point, (gradient, hessian), lipschitz, None, _norm((at - start).ravel()))


class _Point(NamedTuple):
    """Weights without zero columns and samples, columns that span them, and the ball of K."""

    w1: Float[np.ndarray, "D P"]
    w2: Float[np.ndarray, "D P"]
    x: Float[np.ndarray, "N D"]
    spanning: Float[np.ndarray, "D M"]
    ball: float


def _checked(w1_DP, w2_DP, x_ND, sigma, lam) -> _Point:
    """Raises InputError for what cannot be enclosed."""
    x_ND = check_samples(x_ND)
    check_weights(w1_DP, w2_DP, x_ND.shape[1])
    check_noise_and_decay(sigma, lam)
    w1_DP, w2_DP = live(w1_DP, w2_DP)
    units = w1_DP.shape[1]
    spanning_DM = _spanning(w1_DP, w2_DP, x_ND)
    rows = 2 * units * min(spanning_DM.shape[1] + 1, len(w1_DP))
    pairs = len(x_ND) * units * (units - 1) // 2
    if rows > LARGEST_ENCLOSED or pairs > PAIRS_ENCLOSED:
        raise InputError(
            f"weights: a Hessian of {rows} rows and {pairs} pairs of units at a sample; at most "
            f"{LARGEST_ENCLOSED} and {PAIRS_ENCLOSED} are enclosed: use newton_kantorovich"
        )
    return _Point(w1_DP, w2_DP, x_ND, spanning_DM, ball_radius(w1_DP, w2_DP))


def _existence(point: _Point, derivatives, lipschitz: arb, flat, moved: arb) -> Existence:
    """The bound from gradient and Hessian at a point ``moved`` away, orthogonal to ``flat``."""
    gradient, hessian = derivatives
    if hessian.shape[-1] == len(point.w1):
        curvature = lowest_eigenvalue(hessian, flat)
    else:  # a reflection says that what couples the last coordinate with others vanishes
        flat = None if flat is None else flat[..., :-1]
        inside = lowest_eigenvalue(hessian[:, :, :-1, :, :, :-1], flat)
        outside = lowest_eigenvalue(hessian[:, :, -1:, :, :, -1:])
        curvature = inside.min(outside)
    grad_norm = _norm(gradient.ravel())
    h, radius = smaller_root(grad_norm, curvature, lipschitz, point.ball)
    bounds = (_above(each) for each in (radius + moved, h, grad_norm, -curvature, lipschitz))
    radius, h, grad_norm, minus_curvature, lipschitz = bounds
    return Existence(radius, h, grad_norm, -minus_curvature, lipschitz, point.ball, True)


def _spanning(w1_DP, w2_DP, x_ND) -> Float[np.ndarray, "D M"]:
    """Columns that span samples and weights: their own, or fewer unit vectors."""
    columns_DM = np.unique(np.concatenate([x_ND.T, w1_DP, w2_DP], axis=1), axis=1)
    columns_DM = columns_DM[:, np.any(columns_DM != 0, axis=0)]
    is_used_D = np.any(columns_DM != 0, axis=1)
    if columns_DM.shape[1] + 1 < is_used_D.sum():
        return columns_DM
    return np.eye(len(columns_DM))[:, is_used_D]


def _in_span(point: _Point) -> tuple[Balls, Balls, Balls]:
    """W1 and W2 (R, P) and the samples (N, R) in coordinates of the span and, last, a direction
    outside it, which stands for all of them; as they are where the span is everything."""
    w1_DP, w2_DP, x_ND, spanning_DM, _ = point
    if len(spanning_DM) == spanning_DM.shape[1]:
        return _balls(w1_DP), _balls(w2_DP), _balls(x_ND)
    basis = []
    with flint.ctx.workprec(_BITS_OF_SPAN):
        for column in _balls(spanning_DM).T:
            for other in basis:
                column = column - (other @ column) * other
            length = _norm(column)
            if not length > 0:
                raise InputError("samples and weights: exactly dependent; use newton_kantorovich")
            basis.append(column / length)
        basis.append(0 * basis[0])  # no column has a part along the last direction
        w1, w2, x = (np.array(basis) @ _balls(each) for each in (w1_DP, w2_DP, x_ND.T))
    return w1, w2, x.T


class Pair(NamedTuple):
    """Moments of the gates and activities of two units j, k at N samples, each (N,), of unit scale:
    1_j, 1_k and (h + g_j)_+, (k + g_k)_+ with margins h, k (docs/THEORY.md#enclosure)."""

    rho: arb
    q: arb
    h: Balls
    k: Balls
    edge_h: Balls  # φ(h) Φ(t_k)
    edge_k: Balls  # φ(k) Φ(t_h)
    corner: Balls  # φ(h) φ(t_k) = φ(k) φ(t_h)
    both: Balls  # Φ2(h, k; ρ)

    @property
    def relu_relu(self) -> Balls:
        """E[(h + g_j)_+ (k + g_k)_+]."""
        boundary = self.h * self.edge_k + self.k * self.edge_h + self.q * self.corner
        return (self.h * self.k + self.rho) * self.both + boundary

    @property
    def gate_relu(self) -> Balls:
        """E[1_j (k + g_k)_+]."""
        return self.k * self.both + self.edge_k + self.rho * self.edge_h

    @property
    def relu_on_edge_h(self) -> Balls:
        """E[δ(h + g_j) (k + g_k)_+] = φ(h) q [t_k Φ(t_k) + φ(t_k)]."""
        return (self.k - self.rho * self.h) * self.edge_h + self.q * self.corner

    def exchanged(self) -> "Pair":
        """The same of k, j."""
        return self._replace(h=self.k, k=self.h, edge_h=self.edge_k, edge_k=self.edge_h)


def enclose_derivatives(
    w1_RP: Balls, w2_RP: Balls, x_NR: Balls, sigma: float, lam: float
) -> tuple[Balls, Balls]:
    """Gradient (2, P, R) and Hessian (2, P, R, 2, P, R) of (1), in balls of the precision in use.

    Weights and samples may be floats, too.

    Raises:
      InputError: for units that are collinear, or so nearly that balls do not tell.
    """
    w1, w2, x = _balls(w1_RP).T, _balls(w2_RP).T, _balls(x_NR)  # a unit, a sample a row
    sigma, lam = arb(float(sigma)), arb(float(lam))
    (units, d), n = w1.shape, len(x)
    norms = np.array([_norm(w) for w in w1])
    u, scale = w1 / norms[:, None], sigma * norms
    z = x @ u.T / sigma
    pull = x @ w2.T  # x_iᵀ w2_j
    cosine = w2 @ w2.T
    one = np.eye(d, dtype=int)
    gradient = 2 * lam * np.stack([w1, w2])
    hessian = np.full((2, units, d, 2, units, d), arb(0), dtype=object)
    for j in range(units):
        h, phi, cdf = z[:, j], _each(_pdf, z[:, j]), _each(_cdf, z[:, j])
        mean = h * cdf + phi
        frame = u[[j]]
        active = _first(x, sigma, frame, cdf, phi[None])  # (N, D) E 1_j y
        with_own = scale[j] * np.mean(_first(x, sigma, frame, mean, cdf[None]), axis=0)
        square = scale[j] ** 2 * np.mean((1 + h**2) * cdf + h * phi)
        gradient[1, j] += 2 * square * w2[j] - 2 * scale[j] * np.mean(mean[:, None] * x, axis=0)
        gradient[0, j] += 2 * cosine[j, j] * with_own - 2 * np.mean(pull[:, [j]] * active, axis=0)
        hessian[1, j, :, 1, j, :] += (2 * square + 2 * lam) * one
        # Both factors h_j of ‖W2 h‖² are those of the one unit.
        hessian[1, j, :, 0, j, :] += 4 * np.outer(w2[j], with_own) - 2 * x.T @ active / n
        gate = _second(x, sigma, frame, cdf, phi[None], cdf, (-h * phi)[None, None])
        hessian[0, j, :, 0, j, :] += 2 * cosine[j, j] * gate + 2 * lam * one
        # Where the gate closes the residual is that of the other units: their part is below.
        edge = -2 * phi * pull[:, j] / scale[j]
        on_edge = (-h * edge)[None], edge, ((h**2 - 1) * edge)[None, None]
        hessian[0, j, :, 0, j, :] += _second(x, sigma, frame, edge, *on_edge)
    for j, k in combinations(range(units), 2):
        pair = _pair(u[j], u[k], z[:, j], z[:, k])
        both = scale[j] * scale[k] * np.mean(pair.relu_relu)
        hessian[1, j, :, 1, k, :] += 2 * both * one
        hessian[1, k, :, 1, j, :] += 2 * both * one
        r = pair.rho / pair.q * pair.corner
        active = _second(
            x,
            sigma,
            u[[j, k]],
            pair.both,
            np.stack([pair.edge_h, pair.edge_k]),
            pair.both,
            _symmetric(-pair.h * pair.edge_h - r, pair.corner / pair.q, -pair.k * pair.edge_k - r),
        )
        hessian[0, j, :, 0, k, :] += 2 * cosine[j, k] * active
        hessian[0, k, :, 0, j, :] += 2 * cosine[j, k] * active
        for a, b, p in ((j, k, pair), (k, j, pair.exchanged())):
            gradient[1, a] += 2 * both * w2[b]
            # E 1_a h_b y, which moves w1_a, and by which h_b w2_b moves with w1_a.
            edges = np.stack([p.relu_on_edge_h, p.both])
            with_other = scale[b] * np.mean(_first(x, sigma, u[[a, b]], p.gate_relu, edges), axis=0)
            gradient[0, a] += 2 * cosine[a, b] * with_other
            hessian[1, a, :, 0, a, :] += 2 * np.outer(w2[b], with_other)
            hessian[1, b, :, 0, a, :] += 2 * np.outer(w2[a], with_other)
            # E δ(w_aᵀy) h_b y yᵀ, in the frame of u_a and what u_b has beside it.
            beside = (u[b] - p.rho * u[a]) / p.q
            c = 2 * cosine[a, b] * scale[b] / scale[a]
            f0, f1, f2 = c * p.relu_on_edge_h, c * p.q * p.edge_h, c * p.q * p.corner
            edge = _second(
                x,
                sigma,
                np.stack([u[a], beside]),
                f0,
                np.stack([-p.h * f0, f1]),
                f0,
                _symmetric((p.h**2 - 1) * f0, -p.h * f1, f2),
            )
            hessian[0, a, :, 0, a, :] += edge
    hessian[0, :, :, 1, :, :] = np.transpose(hessian[1, :, :, 0, :, :], (2, 3, 0, 1))
    return gradient, hessian


def lowest_eigenvalue(hessian: Balls, flat: Float[np.ndarray, "M ..."] | None = None) -> arb:
    """Positive, its lower end is below every eigenvalue of the symmetric matrix, compressed to
    what is orthogonal to the directions ``flat``; otherwise −∞: nothing is proved.

    With V from float64, VᵀHV is nearly diagonal, and its eigenvalues are above Gershgorin's bound.
    If that is positive, those of H on the range of V are at least as large divided by ‖V‖²,
    itself below the largest row sum of |VᵀV|: the bound holds whatever V is. The axes of the
    matrix may be (2, P, R, 2, P, R), and those of a direction (2, P, R).
    """
    size = int(np.sqrt(hessian.size))
    hessian = hessian.reshape(size, size)
    basis = np.eye(size)
    if flat is not None and len(flat):
        basis = scipy.linalg.null_space(flat.reshape(-1, size))
    centres = _floats(hessian)
    if not np.all(np.isfinite(centres)):
        return arb.neg_inf()
    _, vectors = np.linalg.eigh(basis.T @ centres @ basis)
    v = arb_mat((basis @ vectors).tolist())
    turned = np.array((v.transpose() * arb_mat(hessian.tolist()) * v).tolist())
    absolute = np.abs(turned)
    centre = np.diagonal(turned)
    discs = centre - (absolute.sum(axis=1) - np.diagonal(absolute))
    norm = _largest(np.abs(np.array((v.transpose() * v).tolist())).sum(axis=1))
    lowest = -_largest(-discs)
    return lowest / norm if lowest > 0 else arb.neg_inf()


def _pair(u_j: Balls, u_k: Balls, h: Balls, k: Balls) -> Pair:
    rho = u_j @ u_k
    q = np.sqrt(1 - rho**2)
    if not q > 0:
        raise InputError("W1: has collinear units; merge them (merge_groups)")
    t_h, t_k = (h - rho * k) / q, (k - rho * h) / q
    phi_h, phi_k = _each(_pdf, h), _each(_pdf, k)
    edge_h, edge_k = phi_h * _each(_cdf, t_k), phi_k * _each(_cdf, t_h)
    both = np.array([both_active(*margins, rho) for margins in zip(h, k, strict=True)])
    return Pair(rho, q, h, k, edge_h, edge_k, phi_h * _each(_pdf, t_k), both)


def both_active(h: arb, k: arb, rho: arb) -> arb:
    """Φ2(h, k; ρ) by Drezner and Wesolowsky's integral (docs/THEORY.md#bivariate-normal)."""

    def integrand(share, _):  # entire but where cos θ = 0, and there Arb's balls are infinite
        theta = share * angle
        return (-(h**2 + k**2 - 2 * h * k * theta.sin()) / (2 * theta.cos() ** 2)).exp()

    angle = rho.asin()
    return _cdf(h) * _cdf(k) + angle * acb.integral(integrand, 0, 1).real / (2 * arb.pi())


def _first(x, sigma, frame, f0, f1) -> Balls:
    """(N, D) E F y from E F (N,) and E F ε = Σ_m f1_m frame_m, y = x + σε."""
    return f0[:, None] * x + sigma * (f1.T @ frame)


def _second(x, sigma, frame, f0, f1, identity, f2) -> Balls:
    """Mean over samples of E F y yᵀ, with E F εεᵀ = identity I + Σ_ml f2_ml frame_m frame_lᵀ."""
    n, d = x.shape
    mixed = sigma * (x.T @ f1.T @ frame)
    noise = np.sum(identity) * np.eye(d, dtype=int) + frame.T @ np.sum(f2, axis=2) @ frame
    return (x.T @ (f0[:, None] * x) + mixed + mixed.T + sigma**2 * noise) / n


def _symmetric(first: Balls, mixed: Balls, last: Balls) -> Balls:
    return np.array([[first, mixed], [mixed, last]])


def _sizes(w1: Balls, w2: Balls, x: Balls, sigma: float, radius: float) -> Sizes:
    sigma, n, d = arb(float(sigma)), *x.shape
    norm1 = np.array([_norm(w) for w in w1.T])
    return Sizes(
        lengths=np.array([_norm(sample) for sample in x]),
        margins=np.abs(x @ w1) / (sigma * norm1),
        norms1=norm1,
        norms2=np.array([_norm(w) for w in w2.T]),
        op1=_operator_norm(w1),
        op2=_operator_norm(w2),
        second=_operator_norm(x.T) ** 2 / n + sigma**2,
        energy=np.sum((x @ w1) ** 2) / n + sigma**2 * np.sum(w1**2),
        chi=arb(d * (d + 2)).root(4),  # of all coordinates: no rank to decide on
        sigma=sigma,
        radius=arb(radius),
    )


def _operator_norm(matrix: Balls) -> arb:
    """Above the spectral norm: the root of the largest row sum of |AᵀA|."""
    return np.sqrt(_largest(np.abs(matrix.T @ matrix).sum(axis=1)))


def _norm(values: Balls) -> arb:
    return np.sqrt(np.sum(values**2))


def _balls(values: Balls | Float[np.ndarray, "..."]) -> Balls:
    if np.asarray(values).dtype == object:
        return values
    return _each(lambda value: arb(float(value)), values)


def _floats(balls: Balls) -> Float[np.ndarray, "..."]:
    return np.vectorize(float, otypes=[float])(balls)


def _each(function, values) -> Balls:
    return np.vectorize(function, otypes=[object])(values)


def _cdf(z: arb) -> arb:
    return (-z / arb(2).sqrt()).erfc() / 2


def _pdf(z: arb) -> arb:
    return (-(z**2) / 2).exp() / (2 * arb.pi()).sqrt()


def _largest(values: Balls) -> arb:
    return reduce(arb.max, np.ravel(values))


def _above(value: arb | float) -> float:
    """A float64 number that is not below the ball."""
    upper = float(value.upper()) if isinstance(value, arb) else value
    return float(np.nextafter(upper, np.inf))
