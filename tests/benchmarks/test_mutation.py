"""Which errors are tried, and which tests they are shown to; cosmic-ray itself is not installed."""

from benchmarks import mutation
from benchmarks.mutation import ROOT, Site, annotations_of, is_for_numbers


def test_operators_of_numbers_only():
    name = "core/ReplaceBinaryOperator_{}_{}".format
    assert is_for_numbers(name("Add", "Sub"))
    assert is_for_numbers(name("Mul", "Pow"))
    assert not is_for_numbers(name("Add", "LShift"))
    assert not is_for_numbers(name("BitOr", "Add"))
    assert is_for_numbers("core/NumberReplacer")


def test_annotations_are_found_where_they_stand(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("def f(x: int | None = 1 - 2) -> float | int:\n    return x\n\n\ny: str = 3\n")
    spans = set(annotations_of(path))
    assert spans == {((1, 9), (1, 19)), ((1, 32), (1, 43)), ((5, 3), (5, 6))}


def test_an_error_is_shown_to_its_module_its_room_and_callers_of_its_function():
    own, room, callers = mutation.tests_for(Site("relu/units.py", "", 0, 1, "live_units"))
    assert own == (ROOT / "tests" / "relu" / "test_units.py",)
    assert {path.parent.name for path in room} == {"relu"}
    assert all("live_units(" in path.read_text() for path in callers)
    steps = [path for step in (own, room, callers) for path in step]
    assert len(steps) == len(set(steps))


def test_an_unknown_room_is_refused(capsys):
    argv = ["mutation", "--room=attic"]
    status = mutation.run_main(mutation.try_errors, mutation.Options, argv, "")
    assert status == 2
    assert "no folder dae_theory/attic" in capsys.readouterr().err
