"""What a data set knows of itself."""

import hashlib

import numpy as np

from dae_theory import data


def test_proportional_counts_sum_and_stay_within_one():
    random = np.random.RandomState(1)
    for n in (1, 2, 7, 100, 1001):
        priors = random.dirichlet(np.ones(5))
        counts = data.proportional_counts(priors, n)
        assert counts.sum() == n
        assert np.all(np.abs(counts - n * priors) < 1)


def test_centred_data_keep_their_offset():
    dataset = data.Dataset("any", np.array([[1.0, 5.0], [3.0, 7.0]]))
    result = data.centred(dataset)
    np.testing.assert_allclose(result.x, [[-1, -1], [1, 1]])
    np.testing.assert_allclose(result.offset, [2, 6])


def test_hash_is_that_of_the_rows_whatever_the_memory_order():
    x = np.arange(6.0).reshape(2, 3)
    expected = hashlib.sha256(x.astype("<f8").tobytes()).hexdigest()
    for same in (x, np.asfortranarray(x), x.astype(">f8"), x.astype(np.float32)):
        assert data.Dataset("any", same).sha256 == expected
    assert data.Dataset("any", x + 1e-12).sha256 != expected


def test_a_changed_copy_has_a_hash_of_its_own():
    dataset = data.Dataset("any", np.array([[1.0, 5.0], [3.0, 7.0]]))
    before = dataset.sha256
    assert data.centred(dataset).sha256 != before
    assert dataset.sha256 == before


def test_first_samples_keep_their_labels():
    dataset = data.Dataset("any", np.arange(6.0).reshape(3, 2), labels=np.array([4, 5, 6]))
    first = data.first_samples(dataset, 2)
    np.testing.assert_array_equal(first.x, [[0, 1], [2, 3]])
    np.testing.assert_array_equal(first.labels, [4, 5])
    assert len(data.first_samples(dataset, None).x) == len(data.first_samples(dataset, 9).x) == 3
    assert data.first_samples(data.Dataset("any", dataset.x), 1).labels is None


def test_centring_equal_samples_leaves_nothing():
    equal = data.Dataset("equal", np.tile([0.1, 0.7, -0.3], (7, 1)))
    assert not data.nothing_left(equal)
    assert data.nothing_left(data.centred(equal))
    assert data.nothing_left(data.centred(data.Dataset("one", np.array([[1.0, 2.0]]))))
    assert not data.nothing_left(
        data.centred(data.Dataset("two", np.array([[1.0, 2.0], [1.0, 2.0 + 1e-6]])))
    )
