"""Load a saved model without running Python code from its file: `load_model`."""

from pathlib import Path

import keras

import dltlab.models.normalization  # noqa: F401 - registers the layer that AlexNet's file names
from dltlab.errors import Damaged, Invalid, NotFound, Unavailable

MODEL_FILE = "model.keras"  # in the folder of a training run


def load_model(path: str | Path, *, trusted: bool = False) -> keras.Model:
    """Load the model in a `.keras` file, without its optimizer.

    Args:
        path: The file, or the folder of a training run, which holds `model.keras`.
        trusted: Whether Python code in the file, that of a Lambda layer, may run.

    Raises:
        NotFound: There is no such file, or it is not a `.keras` file.
        Unavailable: The file may not be read, or needs a layer or function that is not imported.
        Invalid: The file contains Python code and is not trusted.
        Damaged: The file is not a complete Keras model.
    """
    path = Path(path).expanduser()
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file() or path.suffix != ".keras":
        raise NotFound(
            f"{path} is not a saved model: name a .keras file, or the folder of a training run "
            f"that contains {MODEL_FILE}."
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not trusted)
    except PermissionError as error:
        raise Unavailable(f"{path} may not be read: allow it, as with chmod u+r.") from error
    except Exception as error:  # a damaged file can raise anything
        if "safe_mode" in str(error):
            raise Invalid(
                f"{path} contains Python code (a Lambda layer), which could do anything. If you "
                "trust it, use --trust-code on the command line; in Python load it with "
                "keras.saving.load_model(..., safe_mode=False) and pass the model."
            ) from error
        if "Could not locate" in str(error):
            raise Unavailable(
                f"{path} needs a layer or function that its author wrote: import it, load the "
                "file with keras.saving.load_model and pass the model."
            ) from error
        raise Damaged(f"{path} is damaged or not a Keras model: save it again.") from error
