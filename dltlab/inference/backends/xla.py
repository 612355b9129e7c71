"""XLA, the compiler inside TensorFlow."""

from dltlab.inference.backends.tf_function import TfFunction


class Xla(TfFunction):
    """Compiles a SavedModel when it runs the first batch."""

    name = "xla"
    jit_compile = True

    def auto_rank(self) -> int | None:
        """Return None: "auto" never takes it."""
        return None
