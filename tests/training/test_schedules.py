"""The one-cycle schedule, and models that are saved with it."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from dltlab.errors import Invalid
from dltlab.training import fit, one_cycle


def rates(schedule: keras.optimizers.schedules.LearningRateSchedule, *steps: float) -> np.ndarray:
    return np.array([float(schedule(step)) for step in steps])


def test_rate_rises_linearly_and_falls_along_half_a_cosine() -> None:
    result = rates(one_cycle(2.0, 100), 0, 15, 30, 65, 100)
    np.testing.assert_allclose(result, [0.08, 1.04, 2.0, 1.0, 0.0], atol=1e-6)


def test_rate_is_0_after_the_last_step() -> None:
    np.testing.assert_allclose(rates(one_cycle(2.0, 100), 101, 1000), 0, atol=1e-6)


def test_warmup_is_the_fraction_of_steps_in_which_the_rate_rises() -> None:
    assert rates(one_cycle(1.0, 10, warmup=0.5), 4, 5, 6).argmax() == 1


def test_rate_equals_that_of_keras_cosine_decay() -> None:
    keras_schedule = keras.optimizers.schedules.CosineDecay(
        0.02 / 25, 329, warmup_target=0.02, warmup_steps=141
    )
    steps = range(0, 500, 7)
    expected = rates(keras_schedule, *steps)
    np.testing.assert_allclose(rates(one_cycle(0.02, 470), *steps), expected, atol=1e-8)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training with the schedule, on gray images of two classes."""
    path = tmp_path_factory.mktemp("run") / "run"
    images = np.random.default_rng(1).uniform(size=(8, 8, 8, 1)).astype("float32")
    train = tf.data.Dataset.from_tensor_slices((images, np.arange(8) % 2)).batch(4)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.compile(
        keras.optimizers.AdamW(one_cycle(0.1, 10)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    fit(model, train, epochs=2, title=None, run_dir=path)
    return path


def test_model_is_loaded_by_keras_alone_in_a_new_process(run_dir: Path) -> None:
    code = (
        "import sys, keras; model = keras.saving.load_model(sys.argv[1]);"
        "assert 'dltlab' not in sys.modules; print(float(model.optimizer.learning_rate))"
    )
    command = [sys.executable, "-c", code, str(run_dir / "model.keras")]
    rate = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert rate == pytest.approx(float(one_cycle(0.1, 10)(4)), rel=1e-5)


@pytest.mark.parametrize(
    "command",
    [
        ["classify", "{run_dir}", "{images}"],
        ["optimize", "{run_dir}/model.keras", "--backend", "keras", "--precision", "float32"],
    ],
    ids=lambda command: command[0],
)
def test_commands_load_the_model_in_a_new_process(
    command: list[str], run_dir: Path, tmp_path: Path, script: str
) -> None:
    image = tmp_path / "image.png"
    keras.utils.save_img(image, np.ones((8, 8, 1)), scale=True)
    arguments = [argument.format(run_dir=run_dir, images=image) for argument in command]
    environment = {**os.environ, "DLTLAB_ENGINE_DIR": str(tmp_path / "engines")}
    result = subprocess.run(
        [script, *arguments],
        cwd=tmp_path, env=environment, capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 10), "peak is 0.0; a learning rate must be positive"),
        ((float("nan"), 10), "peak is nan"),
        ((1.0, 0), "num_steps is 0; it must be 1 or more"),
        ((1.0, 10, 1.0), "warmup is 1.0; it must be between 0 and 1"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        one_cycle(*arguments)
