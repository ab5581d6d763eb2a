"""Are one unit for each duplicate, and the blocks of the rest, a stationary point with loss (3)?"""

from proofs_checks.blocks import loss_formula, stationary
from proofs_checks.claims import Claim, Kind
from proofs_checks.hybrid.experiment import TIGHT
from proofs_checks.mutants import BLOCK_MISPRINTS

CLAIMS = (
    Claim(
        id="cor3.4/stationary",
        statement="With duplicated samples, one unit each beside the blocks of the rest is "
        "stationary.",
        source="docs/THEORY.md#cor-3.4",
        requires=TIGHT,
        measure=stationary,
        tolerance=1e-8,
        mutants=BLOCK_MISPRINTS,
        kind=Kind.EXACT,
    ),
    Claim(
        id="cor3.4/loss-formula",
        statement="The loss there is (3).",
        source="docs/THEORY.md#eq-3",
        requires=TIGHT,
        measure=loss_formula,
        tolerance=1e-8,
        mutants=BLOCK_MISPRINTS,
        kind=Kind.EXACT,
    ),
)
