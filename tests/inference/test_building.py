"""Building engines: once for each model, backend, precision, machine and data."""

import importlib.metadata
import os
from contextlib import contextmanager

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import Invalid, Unavailable
from dltlab.inference import Engine, cache, optimize
from dltlab.inference.backends.openvino_runtime import OpenVino
from dltlab.inference.building import input_specs
from dltlab.inference.manifest import TensorSpec, read_manifest, update_manifest


@pytest.fixture
def build(model, validation, empty_cache):
    def build(**options) -> Engine:
        chosen = {"validation": validation, "batch_size": 8} | options
        return optimize(model, backend="openvino", precision="float32", **chosen)

    return build


@pytest.fixture
def builds(monkeypatch) -> list[str]:
    """The folders in which something was built."""
    folders, build = [], OpenVino.build

    def record(self, model, precision, calibration, folder) -> None:
        folders.append(folder)
        build(self, model, precision, calibration, folder)

    monkeypatch.setattr(OpenVino, "build", record)
    return folders


def test_an_engine_is_built_once(build, builds):
    first, second = build(), build()
    assert len(builds) == 1
    assert second.folder == first.folder
    assert second.accuracy == first.accuracy
    assert second.notes == first.notes


def test_the_model_as_a_file_or_compiled_for_training_finds_the_same_engine(
    build, builds, model, validation, tmp_path
):
    first = build()
    model.save(tmp_path / "tiny.keras")
    loaded = keras.saving.load_model(tmp_path / "tiny.keras")
    loaded.compile("sgd", "mse")
    again = optimize(loaded, backend="openvino", precision="float32", validation=validation)
    assert again.folder == first.folder
    assert len(builds) == 1


def test_a_model_that_differs_in_one_weight_has_an_engine_of_its_own(
    model, validation, empty_cache
):
    options = {"backend": "keras", "precision": "float32", "validation": validation[0]}
    first = optimize(model, batch_size=32, **options)
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    other.get_layer("logits").bias.assign([1, 0, 0, 0])
    second = optimize(other, batch_size=32, **options)
    assert first.folder != second.folder
    assert not np.allclose(first(validation[0]), second(validation[0]))


def test_other_validation_data_builds_again(build, builds, model, validation):
    build()
    fewer = tuple(array[:32] for array in validation)
    engine = optimize(model, backend="openvino", precision="float32", validation=fewer)
    assert engine.accuracy.num_examples == 32
    assert len(builds) == 2


def test_a_damaged_engine_is_built_again(build, builds, validation):
    engine = build()
    outputs = engine(validation[0])
    (engine.folder / "model.xml").write_bytes(b"")
    np.testing.assert_array_equal(build()(validation[0]), outputs)
    assert len(builds) == 2


def test_another_version_of_the_backend_builds_again(build, builds, monkeypatch):
    build()
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "1.0" if name == "openvino" else version(name)
    )
    build()
    assert len(builds) == 2


def test_another_machine_builds_again(build, builds, monkeypatch):
    build()
    monkeypatch.setattr("dltlab.inference.building.this_machine", lambda: "Another CPU")
    build()
    assert len(builds) == 2


def test_an_engine_that_another_process_has_built_meanwhile_is_taken(
    build, builds, monkeypatch, empty_cache
):
    build_lock = cache.build_lock

    @contextmanager
    def late_lock(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cache, "build_lock", build_lock)
            build()  # what the other process does while this one waits
        with build_lock(folder):
            yield

    monkeypatch.setattr(cache, "build_lock", late_lock)
    build()
    assert len(builds) == 1


def test_an_engine_whose_check_was_interrupted_is_checked_and_not_built_again(build, builds):
    engine = build()
    unchecked = engine.manifest.model_copy(update={"accuracy": None})
    update_manifest(engine.folder, unchecked)
    assert build().accuracy == engine.accuracy
    assert read_manifest(engine.folder).accuracy == engine.accuracy
    assert len(builds) == 1


def test_a_failed_build_leaves_nothing(build, monkeypatch, empty_cache):
    def fail(*arguments) -> None:
        raise Invalid("This cannot be built.")

    monkeypatch.setattr(OpenVino, "build", fail)
    with pytest.raises(Unavailable, match="openvino cannot run tiny: This cannot be built"):
        build()
    (home,) = empty_cache.iterdir()
    assert [path.name for path in home.iterdir()] == [".lock"]


def test_unused_engines_are_removed_when_one_is_built(build, empty_cache):
    old = build()
    os.utime(old.folder / "engine.json", (0, 0))
    new = build(validation=None)
    assert [path.parent for path in empty_cache.glob("*/engine")] == [new.folder.parent]


def test_the_manifest_says_how_long_the_build_took_and_lists_the_layers(build):
    manifest = build().manifest
    assert manifest.build_seconds > 0
    assert ("conv_a", "Conv2D") in manifest.layers
    assert len(manifest.layers) == 13


def test_inputs_keep_their_order_shapes_and_dtypes():
    z, a = keras.Input((None, 3), name="z"), keras.Input((), dtype="int32", name="a")
    model = keras.Model([z, a], [layers.Dense(1)(z), a], name="two")
    assert input_specs(model) == (
        TensorSpec(shape=(None, 3), dtype="float32", name="z"),
        TensorSpec(shape=(), dtype="int32", name="a"),
    )


def test_a_subclassed_model_is_refused_with_how_to_wrap_it():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(Invalid, match="own does not know the shape of its input: wrap it"):
        input_specs(Subclassed(name="own"))


def test_a_model_of_texts_is_refused():
    reader = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=3)
    model = keras.Sequential([keras.Input((1,), dtype="string"), reader], name="reader")
    with pytest.raises(Invalid, match="reader takes texts, and engines take numbers"):
        input_specs(model)
