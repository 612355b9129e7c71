"""What the tests that run a lab's cells in their own process share."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True, scope="module")
def _setup_sets_only_the_seed() -> Iterator[None]:
    """Replace `devices.setup`: TensorFlow may have computed here, and its threads are then fixed."""

    def setup(seed: int | None = None, **_: Any) -> None:
        import keras

        if seed is not None:
            keras.utils.set_random_seed(seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dltlab.devices.setup", setup)
        yield
