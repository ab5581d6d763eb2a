"""Where the tolerances of this regime's claims come from."""

from proofs_checks.claims import FIXED, Origin

FIXED_HERE = Origin(FIXED.how, "2380d02d053f2c27ac8910df9e040cb6964165a9")
