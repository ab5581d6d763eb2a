"""Where the tolerances of this regime's claims come from."""

from proofs_checks.claims import FIXED, Origin

# The commit that fixed tolerances, plans and counts of this regime, with seeds below
# FIRST_JUDGING_SEED, before nets of any later seed were looked at.
FIXED_HERE = Origin(FIXED.how, "5384a6c0b92738506cd2279323a6ec53d91b7e31")
# The same for shares found at a false-positive rate: the areas of these nets had been looked at.
FIXED_RATES = Origin(FIXED.how, "57a225a48888198393c14fc934d8c1eaa31c43e8")
