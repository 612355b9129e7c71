"""Record and check a training while it runs: `Recorder`."""

import math
from typing import Any

import keras
import numpy as np

from dltlab.errors import Invalid
from dltlab.training.checked_dataset import CheckedDataset
from dltlab.training.run_state import RunState
from dltlab.training.snapshot import snapshot


class Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Records every finished epoch, and ends a training whose loss is not finite.

    Args:
        state: The progress, which it updates and saves.
        checked: The training data; None if they are only a part of an epoch.

    Attributes:
        step: The number of finished steps in this epoch.
    """

    def __init__(self, state: RunState, checked: CheckedDataset | None) -> None:
        super().__init__()
        self._state, self._checked = state, checked
        self.step = 0
        self._validation_step: int | None = None

    @property
    def place(self) -> str:
        """The batch that is being read."""
        epoch = len(self._state.rows) + 1
        if self._validation_step is not None:
            return f"Step {self._validation_step + 1} of the validation after epoch {epoch}"
        return f"Step {self.step + 1} of epoch {epoch}"

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Copy the state of the model, to restore it if the epoch fails."""
        self.step, self._validation_step = 0, None
        self._restore = snapshot(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check that the loss is finite."""
        self.step = batch + 1
        for name, value in (logs or {}).items():
            if name.endswith("loss") and np.ndim(value) == 0 and not math.isfinite(value):
                reason = self._reason(f"The {name} became {float(value)}")
                self._restore()
                raise Invalid(reason)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to count the steps of the validation."""
        self._validation_step = 0

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the steps of the validation."""
        self._validation_step = batch + 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the epoch."""
        state = self._state
        num_steps = state.steps_per_epoch
        if num_steps and self.step < num_steps and not self.model.stop_training:
            raise Invalid(
                f"The training data ended after step {self.step} of epoch {epoch + 1}: a generator "
                f"must yield steps_per_epoch batches for each epoch, here {num_steps}."
            )
        if not state.rows and self._checked is not None:
            self._checked.require_several_classes()
        values = {name: np.asarray(value).tolist() for name, value in (logs or {}).items()}
        state.add_epoch(self.model, values)
        self.model.stop_training |= state.is_out_of_patience

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Restore the weights of the best epoch."""
        if self._state.best is not None:
            self.model.set_weights(self._state.best)
            self._state.save(self.model)

    def _reason(self, event: str) -> str:
        """Return why a loss is not finite, and what to do."""
        done = len(self._state.rows)
        event = f"{event} at step {self.step} of epoch {done + 1}"
        if self.step == 1 and not done:
            return (
                f"{event}, before the weights had changed: look for a logarithm of 0 or a division "
                "by 0 in the loss or the model, and for weights that are NaN already."
            )
        optimizer = self.model.optimizer
        if optimizer is not None:
            rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
            event = f"{event}, with a learning rate of {rate:.3g}"
        return (
            f"{event}: try a tenth of the rate, or clipnorm=1.0 in "
            "the optimizer; lr_range_test shows which rates work. The model was restored to its "
            "state " + (f"after epoch {done}." if done else "before training.")
        )
