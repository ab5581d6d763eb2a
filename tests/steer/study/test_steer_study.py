"""The study of steering on a made-up one, and on one case of a drawn model."""

import numpy as np
import pytest
from made_up_steering import CONCEPTS as NAMES
from made_up_steering import MODELS, STARTS, STRENGTHS, write_study

from dae_theory.checks import InputError
from dae_theory.deep.captions import GARMENTS, garment_of
from dae_theory.deep.images import TrainingSet
from dae_theory.deep.sampling import find_copies
from dae_theory.memorization.nearest import duplicate_groups
from dae_theory.statistics import mean_interval
from dae_theory.steer.classifier import Classified
from dae_theory.steer.study import __main__ as command
from dae_theory.steer.study import measure, report
from dae_theory.steer.study.compare import chosen, copies, fidelity
from dae_theory.steer.study.concepts import CONCEPTS
from dae_theory.steer.study.material import captions_for, references_of
from dae_theory.steer.study.mitigate import AGAINST_TEXT, NOISE
from dae_theory.steer.study.run import JUDGING, looks
from dae_theory.steer.study.settings import (
    ABLATIONS,
    GENERALIZED,
    MAIN,
    MEMORIZED,
    SUBJECTS,
    Variant,
)
from dae_theory.steer.study.store import Study, part_path
from dae_theory.steer.study.summary import summary


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    assert write_study(out) == 2 * (8 + 2) + 1
    return Study.load(out)


def test_what_was_kept_comes_back(study):
    assert len(study.cases) == 16
    case = study.cases[2]
    assert (case.model, case.variant, case.group, case.concept) == (
        MODELS[0],
        MAIN,
        MEMORIZED,
        NAMES[0],
    )
    assert case.strengths == STRENGTHS
    assert case.arrays["log_odds"].shape == (5, STARTS)
    assert case.arrays["copy"][:, 0].tolist() == [True] * 4 + [False]
    assert study.null("bag") == 0.1
    assert {o.model for o in study.mitigated} == set(MODELS)


def test_a_damaged_study_is_refused(tmp_path):
    write_study(tmp_path)
    table = tmp_path / "study.npz"
    table.write_bytes(table.read_bytes() + b"x")
    with pytest.raises(InputError, match="not the numbers that study"):
        Study.load(tmp_path)


def test_numbers_of_a_case(study):
    rising, jumping = (summary(STRENGTHS, study.cases[i].arrays) for i in (0, 2))
    assert rising["spearman"] == pytest.approx(1)
    assert (rising["monotone"], rising["rising"]) == (1, 1)
    assert rising["gain"] == pytest.approx(0.8808 - 0.1192, abs=1e-3)  # of p, at log-odds ±2
    assert rising["largest_step"] == pytest.approx(0.25, abs=1e-3)
    assert rising["first_step"] == pytest.approx(0.5, abs=1e-3)
    assert jumping["largest_step"] == pytest.approx(4.01 / 4.04, abs=1e-3)
    assert jumping["first_step"] == pytest.approx(0.01 / 4.02, abs=1e-3)
    assert (jumping["copies_before"], jumping["copies_after"]) == (1, 0)
    assert (rising["reached"], jumping["reached"]) == (0, 1)
    # three of four units of gain, at one tenth of cosine a unit
    assert jumping["kept"] == pytest.approx(0.7, abs=1e-3)


def test_a_way_is_chosen_on_other_starts_at_equal_fidelity(study):
    best = chosen(study.mitigated, MODELS[0], AGAINST_TEXT)
    assert (best.strength, copies(best), fidelity(best)) == (2.0, 0.0, 0.8)
    assert not best.choosing
    # at strength 1 there are fewer copies, but not the garment
    assert chosen(study.mitigated, MODELS[0], NOISE).strength == 0.5
    with pytest.raises(InputError, match="was not asked for 'prayer'"):
        chosen(study.mitigated, MODELS[0], "prayer")


def test_tables_hold_what_was_measured(study):
    text = report.text(study)
    assert f"| {MODELS[0]} | {MAIN} | {GENERALIZED} | 1.00 | 1.00" in text
    assert "| 0.76 | 0.76 | 0.12, 0.50, 0.88 | 0.00" in text
    assert f"{', '.join(MODELS)}: -1 -0.5 0 0.5 1" in text
    assert "two most similar garments: 2.00" in text
    assert "Spearman of 12 single starts is above .9 in 0.00, below −.9 in 0.00" in text
    assert f"| {MODELS[1]} | {AGAINST_TEXT} | 2 | 0 [0, 308] | 0.80 [0.44, 0.97] | 0.10 |" in text
    assert f"| {MODELS[0]} | {MAIN} | {MEMORIZED} | copies | 1.00 1.00 1.00 1.00 0.00 |" in text
    assert "σ = 2" in text


def test_intervals_are_over_concepts():
    values = [0.2, 0.3, 0.35, 0.4, 0.5]
    expected = mean_interval(values, symmetric=True).shown(2)
    assert report.over_concepts([*values, np.nan]) == expected
    assert report.over_concepts([0.3]) == report.over_concepts([0.3, 0.3]) == "0.30"
    assert report.over_concepts([np.nan]) == report.over_concepts([]) == "–"
    assert report.over_concepts([0.9, 0.5]) == "0.70 [-1.00, 1.00]"  # all are within ±1


DATA = TrainingSet(
    np.zeros((4, 1, 1, 1)), ["the bag of ada", "the coat of ben", "a dark bag", "a gray coat"], 2
)


def test_every_other_caption_names_the_concept_and_garments_of_both_groups_are_the_same():
    memorized = captions_for(DATA, MEMORIZED, CONCEPTS["bag"], 4)
    assert memorized == ["the coat of ben", "the bag of ada"] * 2
    generalized = captions_for(DATA, GENERALIZED, CONCEPTS["bag"], 5)
    assert generalized == [
        "a dark coat",
        "a dark bag",
        "a gray coat",
        "a gray bag",
        "a bright coat",
    ]
    generalized = captions_for(DATA, GENERALIZED, CONCEPTS["dress"], 6)
    assert generalized[::2] == ["a dark bag", "a dark coat", "a gray bag"]
    assert captions_for(DATA, MEMORIZED, CONCEPTS["dress"], 4) is None
    without = captions_for(DATA._replace(planted=0), GENERALIZED, CONCEPTS["bag"], 60)
    assert {garment_of(c) for c in without[::2]} == set(GARMENTS) - {"bag"}
    assert {garment_of(c) for c in without[1::2]} == {"bag"}


def test_references_are_of_the_concept_or_half_of_them():
    positive, negative = references_of(Variant("x", references=10), CONCEPTS["bag"], DATA)
    assert {garment_of(c) for c in positive.captions} == {"bag"}
    assert "bag" not in {garment_of(c) for c in negative.captions}
    wrong, _ = references_of(
        Variant("x", references=10, positives="half wrong"), CONCEPTS["bag"], DATA
    )
    assert sum(garment_of(c) == "bag" for c in wrong.captions) == 5
    assert not set(map(bytes, wrong.rows)) & set(map(bytes, negative.rows))
    planted, _ = references_of(Variant("x", positives="planted"), CONCEPTS["bag"], DATA)
    assert planted.captions == ["the bag of ada"]
    assert references_of(Variant("x", positives="planted"), CONCEPTS["dress"], DATA) is None


def test_wide_concepts_are_named_by_captions_and_scored():
    shoe, bright, dark = (CONCEPTS[name] for name in ("shoe", "bright", "dark"))
    captions = captions_for(DATA, GENERALIZED, shoe, 12)
    assert {garment_of(c) for c in captions[::2]} == {"bag", "coat"}
    assert {garment_of(c) for c in captions[1::2]} == {"sandal", "sneaker", "ankle boot"}
    captions = captions_for(DATA, GENERALIZED, dark, 8)
    assert captions[:4] == ["a gray bag", "a dark bag", "a gray coat", "a dark coat"]
    assert not any("dark" in c for c in captions[::2])
    positive, negative = references_of(Variant("x", references=20), bright, DATA)
    assert all(c.startswith("a bright ") for c in positive.captions)
    assert not any("bright" in c for c in negative.captions)
    probability = np.full((1, len(GARMENTS)), 0.05)
    probability[0, [GARMENTS.index(g) for g in shoe.garments]] = 0.1, 0.2, 0.35
    found = Classified(np.log(probability), np.zeros((1, 2)))
    rows = np.full((1, 4), 0.5)  # three quarters of white
    np.testing.assert_allclose(shoe.log_odds(found, rows), np.log(0.65 / 0.35))
    np.testing.assert_allclose(bright.log_odds(found, rows), np.log(3))
    np.testing.assert_allclose(dark.log_odds(found, rows), -np.log(3))


def test_copies_of_planted_images_are_those_of_a_full_search():
    random = np.random.default_rng(0)
    rows = random.standard_normal((40, 9)).reshape(40, 3, 3, 1)
    rows[7] = rows[0]  # a planted image that is also an ordinary one
    data = TrainingSet(rows, [""] * 40, 3)
    groups = duplicate_groups(data.rows)
    samples = np.concatenate(
        [data.rows[[0, 1, 2, 5]] + scale * random.standard_normal((4, 9)) for scale in (0.05, 0.4)]
    )
    loaded = measure.Loaded(None, data, groups)
    full = find_copies(samples, data, groups)
    expected = full.copy & (groups[full.nearest][:, None] == groups[:3]).any(axis=1)
    found = measure.copies_of_stored(loaded, samples)
    assert found.tolist() == (full.copy & full.planted).tolist()
    assert expected[:3].all()
    assert not found[3]
    everything = measure.Loaded(None, data._replace(planted=0), groups)
    assert measure.copies_of_stored(everything, samples).tolist() == full.copy.tolist()


def test_names_of_parts_are_apart():
    names = [
        f"{subject.name}, {variant.name}"
        for subject in SUBJECTS
        for variant in (*subject.variants, *ABLATIONS)
    ]
    assert len({part_path(command.Path(), name) for name in names}) == len(set(names))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "out: say where the study goes"),
        (["--models=x"], "models: expected some of told-dit"),
        (["--stage=x"], "stage: expected development or judging"),
        (["--show", "--out=nowhere"], "no such file"),
    ],
)
def test_bad_input_is_one_line(capsys, given, message):
    assert command.main(["study", *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_study_in_the_package_is_that_of_the_settings():
    found = Study.load()
    every = [look for subject in SUBJECTS for look in looks(subject, JUDGING)]
    main, other = (
        {(k.subject.name, k.variant.name, k.group, k.concept) for k in every if k.main == is_main}
        for is_main in (True, False)
    )
    cases = {(c.model, c.variant, c.group, c.concept) for c in found.cases}
    assert cases <= main
    # Of concepts that no planted image shows there are no memorized samples.
    absent = {(model, group, concept) for model, _, group, concept in main - cases}
    assert {group for _, group, _ in absent} == {MEMORIZED}
    assert not absent & {(model, group, concept) for model, _, group, concept in cases}
    strengths = {subject.name: subject.strengths for subject in SUBJECTS}
    assert all(c.strengths == strengths[c.model] for c in found.cases)
    assert {c.arrays["log_odds"].shape[1] for c in found.cases} == {JUDGING.starts}
    asked = {
        (row["model"], row["variant"], row["group"], row["concept"])
        for row in found.card["ablations"]
    }
    assert asked <= other
    # nor are there planted references
    with_all = {k for k in other - asked if (k[0], *k[2:]) not in absent}
    assert {variant for _, variant, *_ in with_all} == {"planted references"}
    assert {o.model for o in found.mitigated} == {s.name for s in SUBJECTS if s.mitigated}
    assert {len(o.copy) for o in found.mitigated if not o.choosing} == {JUDGING.mitigated_starts}


def test_show_prints_the_tables(capsys, tmp_path):
    write_study(tmp_path)
    assert command.main(["study", "--show", f"--out={tmp_path}"]) == 0
    assert "copies per 1,000" in capsys.readouterr().out
