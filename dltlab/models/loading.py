"""Load a saved model without running Python code from its file: `load_model`."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

import dltlab.models.attention
import dltlab.models.normalization  # noqa: F401 - registers the layer that AlexNet's file names
from dltlab.errors import Damaged, Invalid, LabError, NotFound, Unavailable

MODEL_FILE = "model.keras"  # the name of the model in the folder of a training run


def load_model(
    path: str | Path,
    *,
    trusted: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = False,  # noqa: A002 - the name that Keras uses
) -> keras.Model:
    """Load the model in a `.keras` file.

    Args:
        path: The file, or the folder of a training run, which holds `model.keras`.
        trusted: Whether Python code in the file, that of a Lambda layer, may run.
        custom_objects: Classes and functions that the file names and that are not registered with
            Keras, by their names.
        compile: Whether to load the optimizer, the loss and the metrics, too.

    Raises:
        NotFound: There is no such file, or it is not a `.keras` file.
        Unavailable: The file may not be read, or needs a class or function that is not imported.
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
        return keras.saving.load_model(
            path,
            compile=compile,
            safe_mode=not trusted,
            custom_objects=None if custom_objects is None else dict(custom_objects),
        )
    except PermissionError as error:
        raise Unavailable(f"{path} may not be read: allow it, as with chmod u+r.") from error
    except Exception as error:  # a damaged file can raise anything
        raise _explanation(path, error) from error


def load_weights(model: keras.Model, path: Path) -> None:
    """Load weights, and the optimizer's state if the model is compiled, of a like model.

    Args:
        model: A built model, and a built optimizer.
        path: A `.keras` file.

    Raises:
        Invalid: The file has the weights of another model.
        Damaged: The file is not a complete Keras model.
    """
    try:
        model.load_weights(path)
    except Exception as error:  # a damaged file can raise anything
        if not _is_intact(path):
            raise Damaged(
                f"{path} is damaged or not a Keras model: save or train it again."
            ) from error
        raise Invalid(
            f"{path} has the weights of another model: build the same model, or name another "
            "folder."
        ) from error


def _explanation(path: Path, error: Exception) -> LabError:
    """Return the error that says why Keras could not load a file."""
    text = str(error)
    if "safe_mode" in text:
        return Invalid(
            f"{path} contains Python code (a Lambda layer), which could do anything. If you trust "
            "it, pass trusted=True to training.resume or models.load_model, or use --trust-code on "
            "the command line."
        )
    missing = re.search(r"Could not locate (\w+) '([^']+)'", text)
    if missing:
        kind, name = missing.groups()
        return Unavailable(
            f"{path} needs the {kind} {name!r}, which is not part of Keras: pass custom_objects="
            f"{{{name!r}: {name.rpartition('>')[2]}}} to training.resume or models.load_model, or "
            "import the module that registers it with keras.saving.register_keras_serializable."
        )
    if isinstance(error, TypeError | ValueError) and _is_intact(path):
        reason = (
            text.strip().splitlines()[0].rstrip(".: ") if text.strip() else type(error).__name__
        )
        return Unavailable(
            f"{path} is intact, but a class that it names cannot be restored from it ({reason}): "
            "check its methods get_config, from_config and build."
        )
    return Damaged(f"{path} is damaged or not a Keras model: save or train it again.")


def _is_intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "metadata.json" in archive.namelist() and archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
