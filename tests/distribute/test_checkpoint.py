"""`Checkpoint` in one process: what it restores, and what it does with damaged files."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.distribute.checkpoint import Checkpoint
from dltlab.errors import Damaged, Invalid, Unavailable

X = np.random.default_rng(1).standard_normal((64, 4)).astype(np.float32)
Y = X[:, :1] * 2


class Kill(Exception):
    """Stands for the end of the process."""


class KillIn(keras.callbacks.Callback):
    """Ends the training in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.current = epoch

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if (self.current, batch) == (self.epoch, 1):
            raise Kill


def network(units: int = 8) -> keras.Model:
    """Return a network with dropout, batch normalization and bfloat16 variables."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(units, "tanh", dtype="bfloat16"),
            layers.BatchNormalization(),
            layers.Dropout(0.3, seed=1),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def train(folder: Path, epochs: int = 4, killed_in: int | None = None) -> keras.Model:
    """Train as a program does each time it is run."""
    model = network()
    callbacks = [Checkpoint(folder)] + ([] if killed_in is None else [KillIn(killed_in)])
    model.fit(X, Y, 16, epochs, verbose=0, callbacks=callbacks, shuffle=False)
    return model


def assert_same(model: keras.Model, expected: keras.Model) -> None:
    variables = zip(model.variables, expected.variables, strict=True)
    optimizers = zip(model.optimizer.variables, expected.optimizer.variables, strict=True)
    for variable, other in [*variables, *optimizers]:
        if "loss" not in other.path:
            np.testing.assert_array_equal(np.array(variable), np.array(other), other.path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> keras.Model:
    return train(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def of_killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was killed in its fourth epoch."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(Kill):
        train(folder, killed_in=3)
    return folder


@pytest.fixture
def killed(of_killed: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(of_killed, tmp_path / "run"))


def test_a_killed_training_ends_with_the_same_state(killed: Path, undisturbed: keras.Model) -> None:
    model = train(killed)

    assert_same(model, undisturbed)
    assert model.history.epoch == [3]


def test_the_epoch_before_is_restored_if_the_newest_file_is_truncated(
    killed: Path, undisturbed: keras.Model
) -> None:
    newest = killed / "epoch-000003.npz"
    newest.write_bytes(newest.read_bytes()[:-100])

    with pytest.warns(UserWarning, match="epoch-000003.npz is damaged"):
        model = train(killed)

    assert_same(model, undisturbed)
    assert model.history.epoch == [2, 3]


def test_a_changed_byte_is_noticed(killed: Path, undisturbed: keras.Model) -> None:
    newest = killed / "epoch-000003.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)

    with pytest.warns(UserWarning, match="is damaged"):
        assert_same(train(killed), undisturbed)


def test_it_is_an_error_if_no_file_can_be_read(killed: Path) -> None:
    for path in killed.iterdir():
        path.write_bytes(b"")

    with pytest.warns(match="damaged"), pytest.raises(Damaged, match="None of the checkpoints"):
        train(killed)


def test_two_files_are_kept_and_a_complete_training_is_not_repeated(killed: Path) -> None:
    train(killed)
    model = train(killed)

    assert sorted(path.name for path in killed.iterdir()) == [
        "epoch-000003.npz",
        "epoch-000004.npz",
    ]
    assert model.history.epoch == []


def test_the_checkpoint_of_another_model_is_refused(killed: Path) -> None:
    with pytest.raises(Invalid, match="another model or optimizer"):
        network(units=9).fit(X, Y, verbose=0, callbacks=[Checkpoint(killed)])


def test_a_full_disk_leaves_the_earlier_files(
    killed: Path, undisturbed: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(Unavailable, match="No space left on device"):
            train(killed)

    assert sorted(path.name for path in killed.iterdir()) == [
        "epoch-000002.npz",
        "epoch-000003.npz",
    ]
    assert_same(train(killed), undisturbed)
