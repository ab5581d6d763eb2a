"""Where the tolerances of this regime's claims come from."""

from proofs_checks.claims import FIXED, Origin

FIXED_HERE = Origin(FIXED.how, "0" * 40)
