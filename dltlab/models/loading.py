"""A saved model, loaded without running code that came with the file."""

from pathlib import Path

import keras

from dltlab.errors import LabError


def load_model(path: Path, *, trusted: bool = False) -> keras.Model:
    """The model in a `.keras` file.

    Args:
        path: Of the file.
        trusted: Whether Python code in it, that of a Lambda layer, may run.

    Raises:
        LabError: There is none, it may not be read or is damaged, it needs code that is not
            imported, or it holds code and is not trusted.
    """
    if not path.is_file() or path.suffix != ".keras":
        raise LabError(f"{path} is no saved model: name a .keras file.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not trusted)
    except PermissionError as error:
        raise LabError(f"{path} may not be read: allow it, as with chmod u+r.") from error
    except Exception as error:  # as many as there are ways to be damaged
        if "safe_mode" in str(error):
            raise LabError(
                f"{path} holds Python code (a Lambda layer), which could do anything. If you trust "
                "it, say --trust-code on the command line; in Python load it with "
                "keras.saving.load_model(..., safe_mode=False) and pass the model."
            ) from error
        if "Could not locate" in str(error):
            raise LabError(
                f"{path} needs a layer or function of its author's: import it, load the file with "
                "keras.saving.load_model and pass the model."
            ) from error
        raise LabError(f"{path} is damaged or no saved Keras model: save it again.") from error
