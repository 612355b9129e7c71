"""Promote the model of a run, and roll back: `ModelStore`.

models/shapes/            one folder for each name
promotions.json       the promoted versions in order; the last one is in use
1/version.json        a `ModelVersion`: the run, its parameters, metrics and versions
1/model.keras         the model's file, or the folder of a compiled engine
"""

import json
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltlab.batch.run_folder import RunFolder, Status
from dltlab.display import Result
from dltlab.errors import Damaged, Invalid, NotFound
from dltlab.files import atomic_folder, cannot_write, lock_folder, sha256_of, write_atomically
from dltlab.inference import engine_files
from dltlab.paths import short_path

if TYPE_CHECKING:
    import pandas as pd

_NAME = re.compile(r"[\w][\w.-]{0,99}")


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model in a store.

    Attributes:
        name: The name of the model.
        number: The number of the version, from 1.
        path: The model's file, or the folder of an engine.
        run: The name of the run's folder.
        notebook: The notebook that made it.
        parameters: The run's parameters.
        metrics: The last value of each of the run's metrics.
        versions: Those of Python, the packages, the code and the data, as the run wrote them.
        sha256: The hash of each file of the model.
        registered: When it came into the store, in seconds since 1970.
    """

    name: str
    number: int
    path: Path
    run: str
    notebook: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any]
    versions: Mapping[str, Any]
    sha256: Mapping[str, str]
    registered: float


@dataclass(frozen=True, repr=False)
class ModelList(Result):
    """The models of a store.

    Attributes:
        store: The folder.
        versions: Each version, the newest first, and whether it is the one in use.
    """

    store: Path
    versions: tuple[tuple[ModelVersion, bool], ...]

    @property
    def summary(self) -> str:
        """How many models and versions there are."""
        num_models = len({version.name for version, _ in self.versions})
        return (
            f"Models in {short_path(self.store)}: {num_models}. Versions: {len(self.versions)}; "
            "* marks those in use."
        )

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each version: name, number, run, date, metrics and file."""
        import pandas as pd

        rows = [
            {
                "model": version.name,
                "version": f"{version.number}{'*' * in_use}",
                "run": version.run,
                "registered": f"{datetime.fromtimestamp(version.registered):%Y-%m-%d %H:%M}",
                **version.metrics,
                "path": short_path(version.path),
            }
            for version, in_use in self.versions
        ]
        return pd.DataFrame(rows, dtype=object)


class ModelStore:
    """A folder with promoted models; versions are added, and never changed.

    Args:
        folder: The folder; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of the models."""
        return sorted(path.parent.name for path in self.folder.glob("*/promotions.json"))

    def all(self) -> ModelList:
        """Return every version of every model."""
        versions = [item for name in self.names() for item in self.history(name)]
        return ModelList(self.folder, tuple(versions))

    def promote(self, run: RunFolder, name: str = "", model: str = "") -> ModelVersion:
        """Copy a run's model into the store, and make it the version in use.

        A run that is in the store already is not copied again.

        Args:
            run: A run that is done.
            name: The name of the model; by default that of the run's notebook.
            model: The model's file or engine's folder in the run's folder `files`; by default the
                only one there.

        Raises:
            Invalid: The run is not done, the name is not allowed, or there are several models.
            NotFound: The run has no such model.
            Unavailable: The store cannot be written.
        """
        state = run.state()
        if state.status is not Status.DONE:
            raise Invalid(
                f"{run.path.name} is {state.status}: only a run that is done is promoted."
            )
        source = _model_of(run, model)
        name = name or run.run().name
        if not _NAME.fullmatch(name):
            raise Invalid(
                f"{name!r} is no name for a model: use letters, digits, '_', '-' and '.', and "
                "begin with a letter or digit."
            )
        try:
            with lock_folder(self.folder / name):
                known = [v for v in self._versions(name) if v.run == run.path.name]
                version = next((v for v in known if v.path.name == source.name), None)
                version = version or self._add(run, name, source)
                self._write(name, [*self._promotions(name), version.number])
        except OSError as error:
            raise cannot_write(self.folder / name, error) from error
        return version

    def roll_back(self, name: str) -> ModelVersion:
        """Make the version in use that was in use before the last promotion.

        Raises:
            NotFound: There is no model of this name.
            Invalid: No other version was in use before.
        """
        self._require(name)
        with lock_folder(self.folder / name):
            promotions = self._promotions(name)
            if len(promotions) < 2:
                raise Invalid(
                    f"Version {promotions[-1]} of {name} is the first: none was before it."
                )
            self._write(name, promotions[:-1])
        return self.current(name)

    def current(self, name: str) -> ModelVersion:
        """Return the version in use.

        Raises:
            NotFound: There is no model of this name.
            Damaged: A file of the model was changed or removed.
        """
        self._require(name)
        version = self._version(name, self._promotions(name)[-1])
        if _hashes(version.path, version.sha256) != version.sha256:
            raise Damaged(
                f"{version.path} is not what was promoted: a file was changed or removed. "
                f"Promote the run {version.run} again under another name, or roll back."
            )
        return version

    def history(self, name: str) -> list[tuple[ModelVersion, bool]]:
        """Return every version, the newest first, and whether it is the one in use.

        Raises:
            NotFound: There is no model of this name.
        """
        self._require(name)
        current = self._promotions(name)[-1]
        return [(version, version.number == current) for version in reversed(self._versions(name))]

    def _require(self, name: str) -> None:
        """Raise unless a model has this name."""
        if name not in self.names():
            names = ", ".join(self.names()) or "nothing"
            raise NotFound(f"There is no model '{name}' in {self.folder}; it holds {names}.")

    def _add(self, run: RunFolder, name: str, source: Path) -> ModelVersion:
        """Copy the model and describe it; return the new version."""
        files = [source.name]
        if source.is_dir():
            files = [f"{source.name}/{file}" for file in engine_files(source)]
        number = max((version.number for version in self._versions(name)), default=0) + 1
        with atomic_folder(self.folder / name / str(number)) as new:
            for file in files:
                (new / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.parent / file, new / file)
            what = run.run()
            version = ModelVersion(
                name,
                number,
                self.folder / name / str(number) / source.name,
                run=run.path.name,
                notebook=what.notebook,
                parameters=what.parameters,
                metrics=run.final_metrics(),
                versions=run.versions(),
                sha256=_hashes(new / source.name, files),
                registered=time.time(),
            )
            values = asdict(version) | {"path": source.name}
            (new / "version.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
        return version

    def _versions(self, name: str) -> list[ModelVersion]:
        paths = (self.folder / name).glob("[0-9]*/version.json")
        return [self._version(name, number) for number in sorted(int(p.parent.name) for p in paths)]

    def _version(self, name: str, number: int) -> ModelVersion:
        folder = self.folder / name / str(number)
        values = _read(folder / "version.json")
        return ModelVersion(**values | {"path": folder / values["path"]})

    def _promotions(self, name: str) -> list[int]:
        path = self.folder / name / "promotions.json"
        return list(_read(path)) if path.exists() else []

    def _write(self, name: str, promotions: list[int]) -> None:
        text = json.dumps([number for number, _ in groupby(promotions)])
        write_atomically(self.folder / name / "promotions.json", text + "\n")


def _model_of(run: RunFolder, name: str) -> Path:
    """Return the model of a run by its name in the run's folder `files`, or the only one there."""
    files = run.files.resolve()
    if name:
        path = (files / name).resolve()
        is_model = path.is_file() or (path.is_dir() and engine_files(path))
        if not path.is_relative_to(files) or not is_model:
            raise NotFound(f"{run.path.name} has left no model {name} in {run.files}.")
        return path
    models = sorted(files.rglob("*.keras"))
    models += [path for path in sorted(files.rglob("*/")) if engine_files(path)]
    if not models:
        raise NotFound(
            f"{run.path.name} has left no model: save one in the notebook, for example with "
            'model.save("model.keras").'
        )
    if len(models) > 1:
        names = ", ".join(str(path.relative_to(files)) for path in models)
        raise Invalid(f"{run.path.name} has left several models: choose one of {names}.")
    return models[0]


def _hashes(path: Path, files: Iterable[str]) -> dict[str, str]:
    """Return the hash of each of the `files` next to `path` that exists."""
    paths = {file: path.parent / file for file in files}
    return {file: sha256_of(path) for file, path in paths.items() if path.is_file()}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} cannot be read ({error}).") from error
