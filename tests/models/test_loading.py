"""`load_model` loads complete files only, and runs no code from them unless it is trusted."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from dltlab import models
from dltlab.errors import Damaged, Invalid, NotFound, Unavailable


def saved(path: Path, *middle: keras.layers.Layer) -> Path:
    keras.Sequential([keras.Input((3,)), *middle, layers.Dense(2)]).save(path)
    return path


def test_file_and_run_folder_are_loaded(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.keras")
    for source in (path, str(path), tmp_path):
        assert models.load_model(source).output_shape == (None, 2)


@pytest.mark.parametrize("name", ["missing.keras", "model.h5", "folder"])
def test_path_without_a_model_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(NotFound, match=r"not a saved model: name a \.keras file"):
        models.load_model(tmp_path / name)


def test_truncated_file_is_damaged(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.keras")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(Damaged, match="is damaged or not a Keras model"):
        models.load_model(path)


def test_code_in_a_file_runs_only_if_trusted(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.keras", layers.Lambda(lambda x: x + 1))
    with pytest.raises(Invalid, match=r"contains Python code .*--trust-code"):
        models.load_model(path)
    model = models.load_model(path, trusted=True)
    assert model(np.zeros((1, 3))).shape == (1, 2)


def test_unknown_layer_is_named_as_missing(tmp_path: Path) -> None:
    class Custom(layers.Layer):
        def call(self, inputs):
            return inputs

    path = saved(tmp_path / "model.keras", Custom())
    with pytest.raises(
        Unavailable,
        match="needs the class 'Custom', which is not part of Keras: pass custom_objects=",
    ):
        models.load_model(path)
    model = models.load_model(path, custom_objects={"Custom": Custom})
    assert isinstance(model.layers[0], Custom)


def test_class_that_cannot_be_restored_from_its_file_is_not_called_damaged(tmp_path: Path) -> None:
    class Scaled(layers.Layer):
        def __init__(self, factor, **options):
            super().__init__(**options)
            self.factor = factor

        def get_config(self):
            return super().get_config()  # without the factor

        def call(self, inputs):
            return self.factor * inputs

    path = saved(tmp_path / "model.keras", Scaled(2.0))
    with pytest.raises(
        Unavailable, match=r"is intact, but a class .*: check its methods get_config"
    ):
        models.load_model(path, custom_objects={"Scaled": Scaled})


def test_optimizer_is_loaded_on_request(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("adam", "mse")
    model.train_on_batch(np.zeros((1, 3)), np.zeros((1, 2)))
    model.save(tmp_path / "model.keras")
    assert models.load_model(tmp_path, compile=True).compiled
    assert not models.load_model(tmp_path).compiled


def test_unreadable_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "model.keras")

    def deny(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(keras.saving, "load_model", deny)
    with pytest.raises(Unavailable, match=r"may not be read: allow it, as with chmod u\+r"):
        models.load_model(path)


def test_alexnet_is_loaded_in_a_new_process(tmp_path: Path) -> None:
    models.alexnet(3, (67, 67, 3)).save(tmp_path / "model.keras")
    code = "import sys; from dltlab import models; models.load_model(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "model.keras")]
    assert subprocess.run(command, check=False).returncode == 0
