"""The classifier: its calibration error by hand, what it learns, what is refused."""

import shutil

import numpy as np
import pytest

from dae_theory.checks import InputError
from dae_theory.deep.captions import GARMENTS
from dae_theory.steer import classifier
from dae_theory.steer.garments import first_images


def test_calibration_error_by_hand():
    # ten times sure at .9 and right 8 times; ten times at .6 and right 5 times
    sure = np.repeat([0.9, 0.6], 10)
    log_probability = np.log(np.stack([sure, 1 - sure], axis=1))
    labels = np.array([0] * 8 + [1] * 2 + [0] * 5 + [1] * 5)
    assert classifier.calibration_error(log_probability, labels) == pytest.approx(0.1)


def test_the_temperature_undoes_a_scale():
    random = np.random.default_rng(0)
    logits = 2 * random.standard_normal((4000, 3))
    labels = np.array([random.choice(3, p=p) for p in np.exp(classifier._log_softmax(logits))])
    assert classifier.best_temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)


def test_it_learns_what_is_easy():
    random, side = np.random.default_rng(0), classifier.SIZE
    labels = np.arange(40) % 2
    images = np.float32(
        labels[:, None, None] - 0.5 + 0.1 * random.standard_normal((40, side, side))
    )
    training = classifier.Training(epochs=6, batch_size=20, learning_rate=3e-3)
    params = classifier.fit(images, labels, training)
    found = classifier.Classifier(params, 1.0, {})(images.reshape(40, -1))
    assert np.mean(found.log_probability.argmax(axis=1) == labels) == 1
    np.testing.assert_allclose(np.exp(found.log_probability).sum(axis=1), 1)


def test_the_shipped_one_is_as_good_as_its_card_says():
    """On images that come with the package and that it was not trained on."""
    shipped, images = classifier.shipped_classifier(), first_images()
    some = slice(0, 1000)
    found = shipped(images.rows[some])
    right = np.mean(found.log_probability.argmax(axis=1) == images.labels[some])
    accuracy = shipped.card["accuracy"]
    assert accuracy["low"] - 0.03 < right < accuracy["high"] + 0.03
    error = classifier.calibration_error(found.log_probability, images.labels[some])
    assert error < shipped.card["calibration_error"] + 0.04
    assert found.features.shape == (1000, 64)
    assert set(shipped.card["accuracy_by_garment"]) == set(GARMENTS)
    assert classifier.SHIPPED.stat().st_size < 300_000


def test_rows_do_not_depend_on_each_other():
    shipped, images = classifier.shipped_classifier(), first_images()
    every, some = shipped(images.rows[:30]), shipped(images.rows[25:30])
    np.testing.assert_allclose(every.log_probability[25:], some.log_probability, atol=1e-5)


def test_what_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"images: expected 14² pixels"):
        classifier.shipped_classifier()(np.ones((2, 9)))
    with pytest.raises(InputError, match=r"ends in \.npz"):
        classifier.train_classifier(tmp_path / "a.txt", classifier.Training())
    for suffix in (".npz", ".json"):
        shutil.copy(classifier.SHIPPED.with_suffix(suffix), tmp_path)
    path = tmp_path / classifier.SHIPPED.name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="not the classifier that its card describes"):
        classifier.load_classifier(path)


def test_bad_options_are_one_line(capsys):
    assert classifier.main(["classifier"]) == 2
    assert "out: say where the classifier goes" in capsys.readouterr().err
    assert classifier.main(["classifier", "--epochs=0", "--out=x.npz"]) == 2
    assert "epochs: must be at least 1" in capsys.readouterr().err
