"""Provenance: what a pipeline was made from, and what a run records."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dltlab import data, training
from dltlab.data.provenance import provenance_of
from dltlab.errors import Damaged, NotFound


@pytest.fixture
def pets(own_store: Path, tmp_path: Path) -> str:
    """Twenty images in two classes, imported."""
    for number in range(20):
        path = tmp_path / "pets" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * number, 0, 99)).save(path)
    data.import_images(tmp_path / "pets", "pets", size=8)
    return "pets"


def tags(dataset: tf.data.Dataset) -> list[str]:
    return [origin.tag for origin in provenance_of(dataset)]


def train(name: str, run_dir: Path) -> None:
    """Train a small model on a data set."""
    info = data.info(name)
    num_classes = len(info.class_names)
    model = keras.Sequential(
        [keras.Input(info.shape), keras.layers.Flatten(), keras.layers.Dense(num_classes)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = data.load(name, "train", batch_size=64, seed=1).take(2)
    training.fit(model, batches, epochs=1, run_dir=run_dir, title=None)


def test_a_loaded_pipeline_knows_its_data_set(pets: str) -> None:
    assert tags(data.load("digits", batch_size=10)) == ["digits"]
    assert tags(data.load(pets, batch_size=10)) == ["pets@1"]
    assert tags(data.load("mackey_glass")) == ["mackey_glass"]


def test_derived_pipelines_know_it_too() -> None:
    digits, series = data.load("digits"), data.load("mackey_glass")
    derived = digits.take(100).map(lambda image, label: image).shuffle(10).batch(5).prefetch(1)
    assert tags(derived.repeat().cache()) == ["digits"]
    assert tags(tf.data.Dataset.zip(digits, series)) == ["digits", "mackey_glass"]
    assert tags(digits.concatenate(data.load("digits", "test"))) == ["digits"]


def test_arrays_do_not_know_it() -> None:
    images, labels = data.arrays("digits", "test")
    assert tags(tf.data.Dataset.from_tensor_slices((images, labels))) == []


def test_a_record_holds_name_version_and_content_hash(pets: str, tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "one"
    data.write_provenance(run_dir, [data.load(pets), data.load(pets, "test"), "python_docs"])
    rows = json.loads((run_dir / "data.json").read_text())
    assert [(row["name"], row["version"]) for row in rows] == [
        ("pets", 1),
        ("python_docs", "that of Python"),
    ]
    assert rows[0]["content_hash"] == data.info(pets).content_hash
    assert data.read_provenance(run_dir) == ["pets@1", "python_docs"]
    assert list(data.runs_using(pets)) == [f"The run {run_dir} used pets@1."]


def test_two_trainings_in_one_process_record_only_their_own_data(pets: str, tmp_path: Path) -> None:
    train("digits", tmp_path / "digits")
    train(pets, tmp_path / "pets_run")
    assert data.read_provenance(tmp_path / "digits") == ["digits"]
    assert data.read_provenance(tmp_path / "pets_run") == ["pets@1"]
    image = tmp_path / "image.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image)
    digits = training.classify(tmp_path / "digits", image)
    assert digits.columns[3:-1].tolist() == data.info("digits").class_names
    assert training.classify(tmp_path / "pets_run", image).columns[3:-1].tolist() == ["cat", "dog"]


def test_a_training_on_arrays_records_the_data_that_are_named(tmp_path: Path) -> None:
    images, labels = data.arrays("digits", "test")
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(90)
    training.fit(model, batches, epochs=1, run_dir=tmp_path / "run", title=None, data=["digits"])
    assert data.read_provenance(tmp_path / "run") == ["digits"]


def test_an_unknown_name_is_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no data set 'minst'"):
        data.write_provenance(tmp_path / "run", ["minst"])
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_record_used_no_known_data(tmp_path: Path) -> None:
    assert data.read_provenance(tmp_path) == []


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": 1}', '[{"name": "shapes"}]'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(Damaged, match=r"data\.json is damaged: remove it"):
        data.read_provenance(tmp_path)
