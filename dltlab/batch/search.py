"""Search for the best parameters of a notebook with Optuna; its study is kept with the runs."""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dltlab.batch.records import OBJECTIVE_FILE
from dltlab.batch.run_folder import Run, RunFolder, State
from dltlab.batch.scheduling import packages
from dltlab.batch.sweep_file import Distribution, Named, SearchTable, SweepFile
from dltlab.errors import Invalid
from dltlab.files import lock_folder, write_atomically
from dltlab.paths import short_path

_FOLDER = "search"  # in the folder of the runs
_IDENTITY = "dltlab"  # the attribute of a study that says what it searches


class Search:
    """Gives a batch its runs, one after the other: a `Source` of `run_batch`.

    The journal of the study is in the folder of the runs. A trial whose run is done or was pruned
    is finished; the others are run again by the next search in the folder. Several processes may
    search in one folder.

    Attributes:
        example: A run of the search, to tell what all of them need.

    Args:
        file: A sweep file with a table `[search]`.
        out: The folder of the runs.
        make_run: Makes a run from the parameters of a trial.

    Raises:
        Invalid: Optuna has no such sampler or pruner, or it takes other arguments; or the folder
            has another search.
        Unavailable: Optuna is not installed.
    """

    def __init__(
        self, file: SweepFile, out: Path, make_run: Callable[[dict[str, Any]], Run]
    ) -> None:
        assert file.content.search
        (self._optuna,) = packages("optuna")
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        self._file, self._out, self._make_run = file, out, make_run
        self._table: SearchTable = file.content.search
        distributions = self._table.distributions
        self.example = make_run({name: value.example for name, value in distributions.items()})
        self._study = self._open_study()
        trials = self._study.get_trials(deepcopy=False)
        self._unfinished = [trial._trial_id for trial in trials if not trial.state.is_finished()]
        self._trials: dict[str, list[Any]] = {}  # of each run that is not finished
        self._num_reported: dict[str, int] = {}

    def next_run(self) -> Run | None:
        """Return the run of another trial, or None if all have begun."""
        while trial := self._next_trial():
            try:
                values = {
                    name: _suggest(trial, name, distribution)
                    for name, distribution in self._table.distributions.items()
                }
            except ValueError as error:
                raise self._is_another_search() from error
            run = self._make_run(values)
            trials = self._trials.setdefault(run.id, [])
            trials.append(trial)
            if len(trials) == 1:  # otherwise the same parameters are tried now
                return run
        return None

    def finish(self, run: Run, folder: RunFolder, state: State) -> None:
        """Tell Optuna the result of a run that is done or was pruned.

        Raises:
            Invalid: The notebook has not recorded the objective.
        """
        trials = self._trials.pop(run.id, [])
        if not state.status.is_final:
            return
        states = self._optuna.trial.TrialState
        for trial in trials:
            self._report(run.id, trial, folder)
            if state.status == "pruned":
                self._study.tell(trial.number, state=states.PRUNED, skip_if_finished=True)
            else:
                self._study.tell(trial.number, self._objective(folder), skip_if_finished=True)
        self._num_reported.pop(run.id, None)

    def watch(self, folders: Mapping[str, RunFolder]) -> None:
        """Report to Optuna what runs have recorded, and ask those to end that it prunes."""
        if self._table.pruner == "NopPruner":
            return
        for run_id, folder in folders.items():
            for trial in self._trials.get(run_id, ()):
                if self._report(run_id, trial, folder) and trial.should_prune():
                    (folder.path / "prune").touch()

    def _open_study(self) -> Any:
        samplers, pruners = self._optuna.samplers, self._optuna.pruners
        folder = self._out / _FOLDER
        with lock_folder(folder):
            backend = self._optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
            study = self._optuna.create_study(
                study_name=_IDENTITY,
                storage=self._optuna.storages.JournalStorage(backend),
                pruner=self._made("pruner", pruners, pruners.BasePruner),
                direction=self._table.direction,
                load_if_exists=True,
            )
            identity = [self.example.name, self.example.source_hash, self._table.objective]
            identity.append(self._table.direction)
            if study.user_attrs.setdefault(_IDENTITY, identity) != identity:
                raise self._is_another_search()
            study.set_user_attr(_IDENTITY, identity)
            objective = {"metric": self._table.objective, "direction": self._table.direction}
            write_atomically(self._out / OBJECTIVE_FILE, json.dumps(objective) + "\n")
        # Started again with the same seed, a sampler would draw the same values again.
        seed = self._table.seed + len(study.get_trials(deepcopy=False))
        study.sampler = self._made("sampler", samplers, samplers.BaseSampler, seed)
        return study

    def _next_trial(self) -> Any:
        if self._unfinished:
            return self._optuna.trial.Trial(self._study, self._unfinished.pop(0))
        with lock_folder(self._out / _FOLDER):
            if len(self._study.get_trials(deepcopy=False)) < self._table.trials:
                return self._study.ask()
        return None

    def _report(self, run_id: str, trial: Any, folder: RunFolder) -> bool:
        """Report what a run has recorded since the last time; return whether that is something."""
        values = [
            (metric.step, float(metric.value))
            for metric in folder.metrics()
            if metric.name == self._table.objective
            and metric.step is not None
            and isinstance(metric.value, int | float)
        ]
        new = values[self._num_reported.get(run_id, 0) :]
        for step, value in new:
            trial.report(value, step)
        self._num_reported[run_id] = len(values)
        return bool(new)

    def _objective(self, folder: RunFolder) -> float:
        metrics, name = folder.final_metrics(), self._table.objective
        if not isinstance(metrics.get(name), int | float):
            others = f"; it recorded {', '.join(metrics)}" if metrics else ""
            raise Invalid(
                f"{self._file.place('search', 'objective')}: The notebook did not record a number "
                f"'{name}'{others}. Record it with dltlab.record({name!r}, …)."
            )
        return float(metrics[name])

    def _made(self, key: str, module: Any, base: type, seed: int | None = None) -> Any:
        """Return the sampler or the pruner that the table names."""
        named: str | Named = getattr(self._table, key)
        name, arguments = (named, {}) if isinstance(named, str) else (named.name, named.arguments)
        kind = getattr(module, name, None)
        place = self._file.place("search", key)
        if not (isinstance(kind, type) and issubclass(kind, base) and not inspect.isabstract(kind)):
            known = [other for other in module.__all__ if not other.startswith("Base")]
            known = [other for other in known if isinstance(getattr(module, other), type)]
            raise Invalid(f"{place}: Optuna has no {key} '{name}'; it has: {', '.join(known)}.")
        if seed is not None and "seed" in inspect.signature(kind).parameters:
            arguments = {"seed": seed, **arguments}
        try:
            return kind(**arguments)
        except (TypeError, ValueError) as error:
            raise Invalid(f"{place}: {name} cannot be made: {error}") from error

    def _is_another_search(self) -> Invalid:
        return Invalid(
            f"{short_path(self._out)} has another search: of another notebook, objective, "
            "direction or of other choices. Choose another folder with --out."
        )


def _suggest(trial: Any, name: str, distribution: Distribution) -> Any:
    """Return the value of a parameter in a trial, the same if it has one."""
    if distribution.choices is not None:
        return trial.suggest_categorical(name, distribution.choices)
    low, high, log = distribution.low, distribution.high, distribution.log
    if distribution.is_integer:
        return trial.suggest_int(name, low, high, step=distribution.step or 1, log=log)
    return trial.suggest_float(name, low, high, step=distribution.step, log=log)
