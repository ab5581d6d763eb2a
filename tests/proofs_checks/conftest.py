"""Quick experiments, shared with the tests of all claims: nets are trained once in a process.

A test that uses one belongs to the group of the claims on that part, such as
``pytest.mark.xdist_group("diffusion-default-relu")``.
"""

import pytest


@pytest.fixture(scope="session")
def experiment_of():
    """`test_registry.experiment_of`: of a regime, on 'default' or other data."""
    from test_registry import experiment_of

    return experiment_of
