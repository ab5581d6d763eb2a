"""Are the samples that are read off a net's weights the stored ones, within what they are said to
be uncertain by?"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dae_theory.weights.extract import Extraction, extract_samples, match_samples
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Verdict
from proofs_checks.memorize.experiment import LIVE, Memorization
from proofs_checks.mutants import misprint

WITHIN = 2.0  # uncertainties: 95% of normal errors


def deviations(e: Memorization) -> list[Float[np.ndarray, " N"]]:
    """For each net the error of each sample's extracted norm in units of its uncertainty; infinite
    where the net stores no sample of that direction."""
    p, found = e.problem, []
    norms_N = np.linalg.norm(p.x, axis=1)
    for w1, w2 in e.nets.pairs:
        extraction = e.extract(w1, w2, p.sigma, p.lam, len(p.x))
        match = match_samples(extraction.samples, p.x)
        deviation_N = np.full(len(p.x), np.inf)
        extracted = match.extracted[match.cosines > 0.9]
        true = match.true[match.cosines > 0.9]
        difference = extraction.norms[extracted] - norms_N[true]
        deviation_N[true] = difference / extraction.norm_errors[extracted]
        found.append(deviation_N)
    return found


def coverage(e: Memorization) -> Measured:
    """Share of samples whose norm is not within WITHIN uncertainties of the extracted one."""
    found = deviations(e)
    outside_S = np.array([float(np.mean(~(np.abs(t_N) <= WITHIN))) for t_N in found])
    finite = [t_N[np.isfinite(t_N)] for t_N in found]
    rms = np.mean([np.sqrt(np.mean(t_N**2)) if len(t_N) else np.nan for t_N in finite])
    return Measured(
        1 - float(np.mean(outside_S)),
        0.95,
        outside_S,
        e.nets.seeds,
        f"share of samples within {WITHIN:g} uncertainties; rms deviation {{rms:.2f}} of them",
        cases=len(e.problem.x),
        details={"rms": rms},
    )


def certain(*arguments) -> Extraction:
    """Extraction that says its norms are ten times as certain."""
    found = extract_samples(*arguments)
    return found._replace(norm_errors=found.norm_errors / 10)


CLAIMS = (
    Claim(
        id="extraction/coverage",
        statement="Norms read off the weights are within two of their uncertainties of the stored "
        "samples', for 95% of them: fewer are, but eight data sets do not settle it.",
        source="docs/THEORY.md#extraction",
        requires=LIVE,
        measure=coverage,
        tolerance=0.05,
        mutants=(
            misprint("λ/2 for λ", "extract", lam=lambda lam: lam / 2),
            Mutant("a tenth of the uncertainty", lambda e: replace(e, extract=certain)),
        ),
        kind=Kind.EXPLORATORY,
        expected=Verdict.INCONCLUSIVE,
    ),
)
