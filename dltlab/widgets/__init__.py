"""What a learner touches: `DigitPad`, `tensorboard`."""
