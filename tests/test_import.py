"""Importing the package has no side effect, and its public names exist."""

import inspect
import json

import dae_theory


def test_every_public_name_exists_and_is_documented():
    assert len(set(dae_theory.__all__)) == len(dae_theory.__all__)
    for name in dae_theory.__all__:
        value = getattr(dae_theory, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_functions_that_share_a_name_with_their_module_win():
    assert inspect.isfunction(dae_theory.separability)
    assert inspect.isfunction(dae_theory.train)


def test_importing_changes_no_jax_configuration(run_python):
    code = """
import json, jax
before = dict(jax.config.values)
import dae_theory
after = dict(jax.config.values)
changed = sorted(key for key in before if before[key] != after.get(key))
print(json.dumps([changed, bool(jax.config.jax_enable_x64), len(before)]))
"""
    changed, x64, options = json.loads(run_python(code))
    assert changed == []
    assert not x64
    assert options > 50


def test_input_errors_are_value_errors():
    assert issubclass(dae_theory.InputError, ValueError)
