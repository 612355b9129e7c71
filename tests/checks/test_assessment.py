"""Lab 18: the engine of an answer is measured where the answer cannot reach."""

from dataclasses import replace

import pytest

from dltlab.checks import assessment
from dltlab.exercises import Outcome

ISOLATED = replace(assessment.QUICK, isolated=True, bar=0.0)


@pytest.fixture
def evaluate():
    """Evaluate once, in processes of their own, beside one image at a time in `tf.function`."""
    assessment.evaluate_with(ISOLATED)
    yield assessment.build_engine.evaluate
    assessment.evaluate_with(assessment.FULL)


def test_an_answer_that_changes_the_clock_and_the_measurement_gets_what_its_engine_does(evaluate):
    def build_engine(model, calibration, validation, bound):
        import time
        from dataclasses import replace

        import numpy as np

        from dltlab import inference
        from dltlab.inference import benchmarking

        clock, measure = time.perf_counter, benchmarking.measure
        time.perf_counter = lambda: clock() / 1e6
        np.percentile = lambda *arguments: 0.0  # type: ignore[assignment]
        benchmarking.measure = lambda *arguments: replace(
            measure(*arguments), images_per_second=1e12
        )
        return inference.optimize(model, precision="float32", backend="openvino")

    verdict = evaluate(build_engine)

    assert verdict.outcome is Outcome.PASSED, verdict
    (task,) = assessment.results().tasks
    assert 0 < task.share < 1000
    assert not assessment.results().passed


def test_a_smaller_network_that_pretends_to_be_the_one_of_the_task_is_rejected(evaluate):
    def build_engine(model, calibration, validation, bound):
        import keras
        from keras import layers

        from dltlab import inference, models

        class Forged(inference.Engine):
            def __call__(self, images):
                return model.predict(images, verbose=0)  # or what it has kept of them

        small = keras.Sequential(
            [keras.Input((32, 32, 1)), layers.AveragePooling2D(8), layers.Flatten()]
        )
        small.add(layers.Dense(6))
        engine = inference.optimize(small, precision="float32", backend="openvino")
        model_hash = models.model_hash(models.in_precision(model, "float32"))
        manifest = engine.manifest.model_copy(update={"model_hash": model_hash})
        return Forged(engine.folder, manifest, engine.settings)

    verdict = evaluate(build_engine)

    assert verdict.outcome is Outcome.NOT_YET, verdict
    assert "computes something else than the network" in verdict.text
