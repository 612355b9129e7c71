"""Data of every kind that Keras trains on become batches."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from dltlab.errors import Invalid
from dltlab.training.batches import Batches, with_class_weight

ROWS = np.arange(10)
X, Y = ROWS[:, np.newaxis].astype(np.float32), ROWS % 3


class Sequence(keras.utils.PyDataset):
    """Five batches of two rows."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ended = 0

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        rows = slice(2 * index, 2 * index + 2)
        return [X[rows], Y[rows]]

    def on_epoch_end(self) -> None:
        self.ended += 1


class Endless(Sequence):
    @property
    def num_batches(self) -> None:
        return None

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index % 5)


def generator() -> Iterator[Any]:
    yield from ((X[row : row + 2], Y[row : row + 2]) for row in range(0, 10, 2))


def rows_of(batches: Batches) -> list[int]:
    return np.concatenate([x[:, 0] for x, *_ in batches.dataset.as_numpy_iterator()]).tolist()


DATA: dict[str, Any] = {
    "data set": lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(2),
    "arrays": lambda: (X, Y),
    "pandas": lambda: (pd.DataFrame(X), pd.Series(Y)),
    "tensors": lambda: (tf.constant(X), tf.constant(Y)),
    "PyDataset": Sequence,
    "PyDataset with workers": lambda: Sequence(workers=3),
    "generator": generator,
    "loader": lambda: Loader(),
}


class Loader:
    """As a DataLoader of PyTorch: it can be read again, and knows its length."""

    def __iter__(self) -> Iterator[Any]:
        return generator()

    def __len__(self) -> int:
        return 5


@pytest.mark.parametrize("make", DATA.values(), ids=DATA)
def test_all_examples_are_read_in_order(make: Any) -> None:
    batches = Batches.of(make(), "training", batch_size=2)
    x, y = batches.first()
    assert (x.shape, y.shape) == ((2, 1), (2,))
    assert rows_of(batches) == ROWS.tolist()
    assert batches.num_steps == (None if batches.is_generator else 5)


@pytest.mark.parametrize("make", [DATA["arrays"], DATA["PyDataset"]], ids=["arrays", "PyDataset"])
def test_shuffled_data_have_another_order_in_each_epoch(make: Any) -> None:
    keras.utils.set_random_seed(1)
    batches = Batches.of(make(), "training", batch_size=2, shuffle=True)
    orders = [rows_of(batches) for _ in range(3)]
    assert all(sorted(order) == ROWS.tolist() for order in orders)
    assert len(set(map(tuple, orders))) == 3


def test_epoch_of_a_py_dataset_ends_with_its_hook() -> None:
    sequence = Sequence()
    rows_of(Batches.of(sequence, "training"))
    assert sequence.ended == 1


def test_structures_are_kept() -> None:
    arrays = ({"a": X, "b": [X, X]}, Y, np.ones(10))
    x, y, weights = Batches.of(arrays, "training", batch_size=4).first()
    assert set(x) == {"a", "b"}
    assert len(x["b"]) == 2
    assert (y.shape, weights.shape) == ((4,), (4,))


def test_arrays_without_targets_and_ragged_arrays_become_batches() -> None:
    ragged = tf.ragged.constant([[1], [2, 3], [4]])
    assert Batches.of(ragged, "training", batch_size=2).first().to_list() == [[1], [2, 3]]
    assert Batches.of((X, None), "training").first()[0].shape == (10, 1)


def test_dimensions_that_vary_between_batches_are_unknown() -> None:
    batches = Batches.of(((np.ones((2, n)),) for n in (3, 5, 7)), "training")
    assert batches.dataset.element_spec[0].shape.as_list() == [None, None]
    assert [x.shape[1] for (x,) in batches.dataset] == [3, 5, 7]


def test_generator_loses_no_batch_when_its_first_one_is_read() -> None:
    batches = Batches.of(generator(), "training")
    batches.first()
    assert rows_of(batches) == ROWS.tolist()


def test_data_without_a_known_end_are_refused() -> None:
    for data in (Endless(), tf.data.Dataset.range(3).repeat()):
        with pytest.raises(Invalid, match="The training data have no end: pass more"):
            Batches.of(data, "training").require_end("pass more")
    with pytest.raises(Invalid, match="from a generator, which does not say where"):
        Batches.of(generator(), "training").require_end("pass more")
    Batches.of(Sequence(), "training").require_end("pass more")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([X, Y], "The training data are a list: pass a tf.data.Dataset, a pair of arrays"),
        ("digits", "The training data are a str: pass a tf.data.Dataset"),
        (3, "The training data are a int: pass a tf.data.Dataset"),
        ((X, Y[:9]), "The arrays of the training data have 10, 9 examples"),
        ((X, Y, Y, Y), "The training data are a tuple of 4: pass .x, y. or .x, y, weights."),
        ((X, Y.tolist()), "contain a int where an array is needed: convert a list with"),
        (iter(()), "The training data are empty"),
        ((X[:0], Y[:0]), "The training data are empty"),
        (iter([(X[0], 1)]), "A batch of the training data contains single numbers"),
        (iter([[[1.0], [2.0]]]), "contains single numbers: .* convert lists with numpy.array"),
    ],
)
def test_other_data_are_refused(data: Any, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        Batches.of(data, "training").first()


@pytest.mark.parametrize(
    ("labels", "are_numbers"),
    [
        (np.array([0, 1, 2]), True),
        (np.array([[0], [1], [2]]), True),
        (np.eye(3), False),
        (np.array([0.0, 1.0, 2.0]), False),
    ],
)
def test_each_example_has_the_weight_of_its_class(labels: Any, are_numbers: bool) -> None:
    dataset = tf.data.Dataset.from_tensors((np.ones((3, 1)), labels))
    class_weight: Any = {0: 5.0, np.int64(1): 2}
    weighted = with_class_weight(dataset, class_weight, are_class_numbers=are_numbers)
    ((_, _, weights),) = weighted.as_numpy_iterator()
    assert weights.tolist() == [5.0, 2.0, 1.0]


def test_labels_of_every_step_have_weights() -> None:
    dataset = tf.data.Dataset.from_tensors((np.ones((1, 3)), np.array([[2, 0, 1]])))
    ((_, _, weights),) = with_class_weight(dataset, {0: 5.0}, are_class_numbers=True)
    assert weights.numpy().tolist() == [[1.0, 5.0, 1.0]]


def test_class_weight_that_cannot_be_used_is_refused() -> None:
    dataset = tf.data.Dataset.from_tensors((X, Y))
    with pytest.raises(Invalid, match="class_weight has the key 'cat'; its keys must be"):
        with_class_weight(dataset, {"cat": 1.0}, are_class_numbers=True)  # type: ignore[dict-item]
    with pytest.raises(Invalid, match="class_weight is 'balanced'; it must be a dict of class"):
        with_class_weight(dataset, "balanced", are_class_numbers=True)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match=r"class_weight needs batches \(x, y\)"):
        with_class_weight(tf.data.Dataset.from_tensors((X, Y, Y)), {0: 1.0}, are_class_numbers=True)


@pytest.mark.parametrize(("cores", "autotunes"), [(2, False), (64, None)])
def test_data_are_autotuned_only_where_that_allows_more_calls_at_a_time(
    cores: int, autotunes: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    dataset = tf.data.Dataset.range(3).batch(2)
    for data in (dataset, np.zeros((4, 2)), iter([np.zeros((4, 2))])):
        assert Batches.of(data, "training").dataset.options().autotune.enabled is autotunes

    options = tf.data.Options()
    options.autotune.enabled = True
    chosen = Batches.of(dataset.with_options(options), "training").dataset
    assert chosen.options().autotune.enabled
