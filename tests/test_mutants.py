"""Plausible errors in formulas, which tests of their rooms notice, and claims where they can.

Each is a text put in the place of another in a copy of the package. Run by hand, as it takes
minutes: ``python -m pytest -m slow tests/test_mutants.py``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS_FAILED = 1  # pytest's exit status; 2 and up: it could not run them


class SourceMutant(NamedTuple):
    """An error: ``instead`` of ``text`` in ``file``, to be noticed by ``tests``, and by ``claims``:
    in those of tests/proofs_checks, a claim or one of its mutants gets another verdict. None where
    those about the same thing do not: a weaker proof of what is true, or less than a tolerance."""

    name: str
    file: str
    text: str
    instead: str
    tests: str
    claims: str | None = None


MUTANTS = (
    SourceMutant(
        "nλ/n for nλ/n_ℓ in (8)",
        "theory/closed_forms.py",
        "max(square - n * lam / count, 0.0)",
        "max(square - lam, 0.0)",
        "theory/test_closed_forms.py",
        "test_registry.py -k cor3.4/duplicate-gains",
    ),
    SourceMutant(
        "σ²/n_ℓ for σ² in (8)",
        "theory/closed_forms.py",
        "/ (square + sigma**2)",
        "/ (square + sigma**2 / count)",
        "theory/test_closed_forms.py",
        "test_registry.py -k cor3.4/duplicate-gains",
    ),
    SourceMutant(
        "gain 1",
        "theory/closed_forms.py",
        "(eigenvalues - decay).clip(0.0) / (eigenvalues + noise)",
        "(eigenvalues > decay) * 1.0",
        "theory/test_closed_forms.py",
        "test_registry.py -k thm3.1/stationary",
    ),
    SourceMutant(
        "nσ²/K for n_kσ² in (2)",
        "theory/closed_forms.py",
        "noises=counts * sigma**2",
        "noises=np.full(n_clusters, n / n_clusters * sigma**2)",
        "theory/test_closed_forms.py",
        "test_registry.py -k thm3.1/stationary",
    ),
    SourceMutant(
        "Kλ for λ/ρ_k in (6)",
        "theory/closed_forms.py",
        "decays = lam / priors_K",
        "decays = lam * np.full(n_clusters, n_clusters)",
        "theory/test_closed_forms.py",
        "test_registry.py -k cor3.3/population-blocks",
    ),
    SourceMutant(
        "mean for max in β",
        "theory/separability.py",
        "max(largest, float(np.max(cosines, where=above, initial=-1.0)))",
        "float(np.sum(cosines * above) / np.sum(above)) if np.any(above) else largest",
        "theory/test_separability.py",
        "memorize/test_memorize.py -k correlated",
    ),
    SourceMutant(
        "best for worst error of a gain",
        "weights/compare.py",
        "np.max(np.abs(measured / np.where(kept, predicted, 1.0) - 1), where=kept, initial=0.0)",
        "np.min(np.abs(measured / np.where(kept, predicted, 1.0) - 1), where=kept, initial=9.0)",
        "weights/test_compare.py",
        "test_registry.py -k thm3.1/trained-gains",
    ),
    SourceMutant(
        "cosines of the encoder alone",
        "weights/compare.py",
        "            np.sum(leading_DP * w2_DP, axis=0) / norm2_P,\n",
        "            np.sum(leading_DP * w1_DP, axis=0) / norm1_P,\n",
        "weights/test_compare.py",
        "test_registry.py -k cor3.2/columns",
    ),
    SourceMutant(
        "units merged by their sum",
        "relu/units.py",
        "np.sqrt(h_NP**2 @ member_PG)",
        "h_NP @ member_PG",
        "relu/test_units.py",
        "test_registry.py -k detect/units",
    ),
    SourceMutant(
        "(Σh)² for (Σh²)² in the participation ratio",
        "relu/units.py",
        "square**2 / fourth",
        "np.sum(h, axis=-1) ** 2 / fourth",
        "relu/test_units.py",
        "test_registry.py -k detect/units",
    ),
    SourceMutant(
        "margin not shrunk inside the ball",
        "minima/existence.py",
        "    z_NP = z_NP - 2 * s.radius * s.lengths[:, None] / (s.sigma * s.norms1)\n",
        "",
        "minima/test_existence.py",
        "test_registry.py -k certify/planted-ball",
    ),
    SourceMutant(
        "allowance for rounding with the wrong sign",
        "minima/existence.py",
        "grad_norm + off_gradient, curvature - off_curvature",
        "grad_norm - off_gradient, curvature + off_curvature",
        "minima/test_existence.py",
    ),
    SourceMutant(
        "enclosure: gates that stay where they are",
        "minima/enclosure.py",
        "hessian[0, a, :, 0, a, :] += edge\n",
        "pass\n",
        "minima/test_enclosure.py",
    ),
    SourceMutant(
        "enclosure: diagonal for Gershgorin's bound",
        "minima/enclosure.py",
        "lowest = -_largest(-discs)",
        "lowest = -_largest(-centre)",
        "minima/test_enclosure.py",
    ),
    SourceMutant(
        "enclosure: eigenvectors taken as orthonormal",
        "minima/enclosure.py",
        "return lowest / norm if",
        "return lowest if",
        "minima/test_enclosure.py",
    ),
    SourceMutant(
        "enclosure: directions outside the span left out",
        "minima/enclosure.py",
        "inside.min(outside)",
        "inside",
        "minima/test_enclosure.py",
    ),
    SourceMutant(
        "census: cosines of the encoder alone",
        "minima/census.py",
        "for w in (w1, w2)))\n",
        "for w in (w1, w1)))\n",
        "minima/test_census.py",
        "test_registry.py -k certify/planted-kinds",
    ),
    SourceMutant(
        "census: entangled when all units are",
        "minima/census.py",
        "np.any(active_NP.sum(axis=0) > 1)",
        "np.all(active_NP.sum(axis=0) > 1)",
        "minima/test_census.py",
        "test_registry.py -k certify/planted-kinds",
    ),
    SourceMutant(
        "census: a tolerance of curvature without a scale",
        "minima/census.py",
        "is_flat = lowest >= -CURVATURE_TOLERANCE * largest",
        "is_flat = lowest >= -1e-7",
        "minima/test_census.py",
        "test_registry.py -k certify/planted-saddle",
    ),
    SourceMutant(
        "copies below a ratio of 1/2",
        "memorization/copies.py",
        "COPY_RATIO = 1 / 3",
        "COPY_RATIO = 1 / 2",
        "memorization/test_copies.py",
        "test_registry.py -k diffusion/copies-on-the-way",
    ),
    SourceMutant(
        "rank of rotations to 1%",
        "theory/symmetry.py",
        "RANK_TOLERANCE = 1e-8",
        "RANK_TOLERANCE = 1e-2",
        "theory/test_symmetry.py",
        "test_registry.py -k certify/planted-rotations",
    ),
    SourceMutant(
        "steered flow: σ^g for σ^(1−g)",
        "theory/steering.py",
        "sigma ** (1 - share) *",
        "sigma**share *",
        "theory/test_steering.py",
        "test_registry.py -k steer/within-flow",
    ),
    SourceMutant(
        "steered flow: forced by a, not a m",
        "theory/steering.py",
        "gain_T = g * e / (e + sigma_T**2)",
        "gain_T = g + 0 * sigma_T",
        "theory/test_steering.py",
        "test_registry.py -k steer/within-flow",
    ),
    SourceMutant(
        "steered flow: gates of the start",
        "theory/steering.py",
        "for row in np.flatnonzero(changed_B):",
        "for row in ():",
        "theory/test_steering.py",
        "test_registry.py -k steer/across-flow",
    ),
    SourceMutant(
        "law of the switch: 1 − |c| for 1 − c²",
        "theory/steering.py",
        "(1 - c**2) * np.expm1(-opening)",
        "(1 - c) * np.expm1(-opening)",
        "theory/test_steering.py",
        "test_registry.py -k steer/across-law",
    ),
    SourceMutant(
        "s for s − nλ in the loss (3)",
        "theory/closed_forms.py",
        "np.sum(np.maximum(values[: len(gains)] - n * lam, 0.0) * gains)",
        "np.sum(values[: len(gains)] * gains)",
        "theory/test_closed_forms.py",
        "test_registry.py -k thm3.1/loss-formula",
    ),
    SourceMutant(
        "σ for σ² in (6)",
        "theory/closed_forms.py",
        "noises=np.full(n_clusters, sigma**2)",
        "noises=np.full(n_clusters, sigma)",
        "theory/test_closed_forms.py",
        "test_registry.py -k cor3.3/population-blocks",
    ),
    SourceMutant(
        "covariances for second moments in (6)",
        "theory/closed_forms.py",
        "np.linalg.eigh(np.outer(mean, mean) + cov)",
        "np.linalg.eigh(cov)",
        "theory/test_closed_forms.py",
        "test_registry.py -k cor3.3/population-blocks",
    ),
    SourceMutant(
        "(7) as printed",
        "theory/closed_forms.py",
        "e[:width] * sigma**2 / (e[:width] + sigma**2)",
        "e[:width] * sigma**4 / (e[:width] + sigma**2) ** 2",
        "theory/test_closed_forms.py",
        "test_registry.py -k cor3.3/test-loss-limit",
    ),
    SourceMutant(
        "(7) without what the width drops",
        "theory/closed_forms.py",
        " + e[width:].sum())",
        ")",
        "theory/test_closed_forms.py",
        "test_registry.py -k errata/test-loss",
    ),
    SourceMutant(
        "test loss with ‖M‖ for ‖M‖²",
        "theory/closed_forms.py",
        "sigma**2 * np.sum(m_DD**2))",
        "sigma**2 * np.linalg.norm(m_DD))",
        "theory/test_closed_forms.py",
        "test_registry.py -k cor3.3/test-loss",
    ),
    SourceMutant(
        "‖x‖ for ‖x‖² in (8)",
        "theory/closed_forms.py",
        "square = norm**2",
        "square = norm",
        "theory/test_closed_forms.py",
        "test_registry.py -k cor3.4/duplicate-gains",
    ),
    SourceMutant(
        "mean for least margin",
        "theory/separability.py",
        "float(np.min(sign_NP * (x_ND[part] @ u_DP)))",
        "float(np.min(np.mean(sign_NP * (x_ND[part] @ u_DP), axis=0)))",
        "theory/test_separability.py",
        "test_registry.py -k separability/margin",
    ),
    SourceMutant(
        "exp(−z²) for exp(−z²/2) in F",
        "theory/remainder.py",
        "np.sum(np.exp(-(z_NP**2) / 2))",
        "np.sum(np.exp(-(z_NP**2)))",
        "theory/test_remainder.py",
        "test_registry.py -k cor3.2/residual-decay",
    ),
    SourceMutant(
        "flipped gates: the sample for what the net leaves of it",
        "theory/remainder.py",
        "first_NP * (residual_ND @ w_DP)",
        "first_NP * (x_ND @ w_DP)",
        "theory/test_remainder.py",
        "test_registry.py -m slow -k certify/reach-leak",
    ),
    SourceMutant(
        "spectrum: λ for s/n along what is dropped",
        "theory/spectrum.py",
        "[[lam, -s_i / n], [-s_i / n, lam]]",
        "[[lam, -lam], [-lam, lam]]",
        "minima/test_second_order.py",
        "test_registry.py -k certify/mixture/spectrum",
    ),
    SourceMutant(
        "pull: nλ for λ",
        "theory/pull.py",
        "prediction.lam * kept_DR",
        "len(x_ND) * prediction.lam * kept_DR",
        "theory/test_pull.py",
        "test_registry.py -k certify/dead-unit-formula",
    ),
    SourceMutant(
        "pull on a new unit: the target without the net",
        "minima/dead_units.py",
        "(clean_DM - w2_DP @ second_MP.T)",
        "clean_DM",
        "minima/test_dead_units.py",
        "test_registry.py -k certify/dead-units-simplex",
    ),
    SourceMutant(
        "std: 1/P for 1/P²",
        "theory/detectors.py",
        "np.outer(a_R, a_R) / width**2",
        "np.outer(a_R, a_R) / width",
        "theory/test_detectors.py",
        "test_registry.py -k detect/std",
    ),
    SourceMutant(
        "denoising error: M for M²",
        "theory/detectors.py",
        "        response.operator, 2\n",
        "        response.operator, 1\n",
        "theory/test_detectors.py",
        "test_registry.py -k detect/error",
    ),
    SourceMutant(
        "h without the detector's noise",
        "theory/detectors.py",
        "spread_RR = spread_RR + self.sigma**2 * np.eye(len(root_R))",
        "spread_RR = spread_RR + 1e-9 * np.eye(len(root_R))",
        "theory/test_detectors.py",
        "test_registry.py -k detect/energy-auroc",
    ),
    SourceMutant(
        "trace: one probe for all",
        "theory/detectors.py",
        "np.repeat(response.gains, probes) / probes",
        "response.gains",
        "theory/test_detectors.py",
        "test_registry.py -k detect/trace-probed",
    ),
    SourceMutant(
        "1/Σc² for 1/Σc⁴",
        "theory/detectors.py",
        "np.sum(np.asarray(amounts, float) ** 4)",
        "np.sum(np.asarray(amounts, float) ** 2)",
        "theory/test_detectors.py",
        "test_registry.py -k detect/single-units",
    ),
    SourceMutant(
        "Beta(k+1, T−k) for Beta(k, T+1−k)",
        "theory/calibration.py",
        "scipy.stats.beta(rank, calibration + 1 - rank)",
        "scipy.stats.beta(rank + 1, calibration - rank)",
        "theory/test_calibration.py",
        "test_registry.py -k detect/false-alarms",
    ),
    SourceMutant(
        "½λ in the objective",
        "relu/loss.py",
        "return lam * (jnp.sum",
        "return lam / 2 * (jnp.sum",
        "relu/test_loss.py",
        "test_registry.py -k cor3.2/stationary",
    ),
    SourceMutant(
        "units without correlation",
        "relu/gaussian_moments.py",
        "(h * k + rho) * both + boundary",
        "h * k * both + boundary",
        "relu/test_gaussian_moments.py",
        "test_registry.py -k thm3.1/loss-formula",
    ),
    SourceMutant(
        "gates of negative pre-activations",
        "weights/compare.py",
        "np.maximum(np.asarray(x_ND) @ w1_DP, 0.0) ** 2",
        "(np.asarray(x_ND) @ w1_DP) ** 2",
        "weights/test_compare.py",
        "test_registry.py -k thm3.1/trained-blocks",
    ),
    SourceMutant(
        "operator of the encoder alone",
        "weights/compare.py",
        "m_DD = w2_DP[:, unit_P] @ w1_DP[:, unit_P].T",
        "m_DD = w1_DP[:, unit_P] @ w1_DP[:, unit_P].T",
        "weights/test_compare.py",
        "test_registry.py -k thm3.1/trained-gains",
    ),
    SourceMutant(
        "stored norm: m for 1 − m",
        "weights/extract.py",
        "return (decay + sigma**2 * gain) / (1 - gain)",
        "return (decay + sigma**2 * gain) / gain",
        "weights/test_extract.py",
        "test_registry.py -k extraction/coverage",
    ),
    SourceMutant(
        "gap ratio squared",
        "memorization/copies.py",
        "near_M / np.where(second_M > 0, second_M, 1.0), 1.0)",
        "(near_M / np.where(second_M > 0, second_M, 1.0)) ** 2, 1.0)",
        "memorization/test_copies.py",
        "test_registry.py -k diffusion/copies-on-the-way",
    ),
    SourceMutant(
        "f_emp: σ for σ²",
        "diffusion/denoisers.py",
        "jnp.sum(x_ND**2, axis=1)) / sigma**2",
        "jnp.sum(x_ND**2, axis=1)) / sigma",
        "diffusion/test_denoisers.py",
        "test_registry.py -k unseen/closer-to-truth",
    ),
    SourceMutant(
        "f_gt: σ for σ²",
        "diffusion/denoisers.py",
        "variance_KD = values_KD + sigma**2",
        "variance_KD = values_KD + sigma",
        "diffusion/test_denoisers.py",
        "test_registry.py -k diffusion/floor",
    ),
    SourceMutant(
        "Heun's step by the later slope",
        "diffusion/samplers.py",
        "(here_ND + there_ND) / 2",
        "there_ND",
        "diffusion/test_samplers.py",
        "test_registry.py -k diffusion/heun-order",
    ),
    SourceMutant(
        "κ from σ_max",
        "theory/steering.py",
        "return growth(levels.sigma_min, e_R, share_R) * _forcing(",
        "return growth(levels.sigma_max, e_R, share_R) * _forcing(",
        "theory/test_steering.py",
        "test_registry.py -k steer/within-flow",
    ),
    SourceMutant(
        "flipped gates without what they pass",
        "theory/remainder.py",
        "        + 2 * prediction.sigma**2 * other_NP * through_NP * tail_NP\n",
        "",
        "theory/test_remainder.py",
        "test_registry.py -m slow -k certify/reach-leak",
    ),
    SourceMutant(
        "‖h‖²: m for √m in its mean",
        "theory/detectors.py",
        "return root_R * (self.directions.T @ self.mean)",
        "return root_R**2 * (self.directions.T @ self.mean)",
        "theory/test_detectors.py",
    ),
    SourceMutant(
        "⌊aT⌋ for ⌊a(T+1)⌋",
        "theory/calibration.py",
        "int(level * (calibration + 1) + 1e-9)",
        "int(level * calibration + 1e-9)",
        "theory/test_calibration.py",
    ),
)
IDS = [mutant.name for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=IDS)
def test_text_stands_in_the_file_once(mutant):
    assert (ROOT / "dae_theory" / mutant.file).read_text().count(mutant.text) == 1
    assert (ROOT / "tests" / mutant.tests).is_file()


def is_noticed(mutant: SourceMutant, tests: str, folder: Path) -> bool:
    """Whether these tests, arguments of pytest, fail in a copy with the error."""
    for name in ("benchmarks", "dae_theory", "docs", "proofs_checks", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    file = folder / "dae_theory" / mutant.file
    file.write_text(file.read_text().replace(mutant.text, mutant.instead))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", *f"tests/{tests}".split()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, TESTS_FAILED), done.stdout[-2000:]
    return done.returncode == TESTS_FAILED


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=IDS)
def test_tests_notice(mutant, tmp_path):
    assert is_noticed(mutant, mutant.tests, tmp_path / "copy")


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant", [pytest.param(m, id=m.name) for m in MUTANTS if m.claims is not None]
)
def test_claims_notice(mutant, tmp_path):
    assert is_noticed(mutant, f"proofs_checks/{mutant.claims}", tmp_path / "copy")
