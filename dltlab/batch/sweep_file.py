"""Sweep files: a notebook, the parameters of its runs, and what each run needs.

notebook = "train.ipynb"          # or lab = "02", with profile = "smoke"
repeats = 3                       # with the seeds 0, 1 and 2
folds = 5                         # with the parameter FOLD from 0 to 4
timeout = 600                     # seconds of a run
cores = 1
gpus = 1                          # any one; [0, 1]: exactly these
memory_gb = 2.5

[parameters]                      # the same in every run
epochs = 3

[grid]                            # every combination
batch_size = [32, 64]

[random]                          # or [search], with Optuna
runs = 20
learning_rate = {low = 1e-4, high = 1e-1, log = true}
units = {low = 16, high = 128, step = 16}
optimizer = {choices = ["sgd", "adam"]}
"""

import itertools
import math
import random
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dltlab.batch.template import ProfileName
from dltlab.errors import Invalid
from dltlab.toml_files import Table, TomlFile, read_toml

_SEEDS = ("seed", "SEED")
_FOLD = "FOLD"


class Distribution(Table):
    """Where the values of a parameter are drawn from: a range, or choices.

    Attributes:
        low: The least value. Two integers make a range of integers.
        high: The greatest value.
        log: Whether the logarithm is uniform.
        step: The distance of the values from each other, from `low`.
        choices: The values, where there is no range.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None
    choices: list[Any] | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _require_table(cls, values: Any) -> Any:
        if not isinstance(values, dict | Distribution):
            raise ValueError("give a table, as {low = 1, high = 8} or {choices = [1, 2]}")
        return values

    @model_validator(mode="after")
    def _check(self) -> "Distribution":
        given = self.model_fields_set
        if self.choices is not None:
            if given != {"choices"}:
                raise ValueError("choices take no other keys")
        elif self.low is None or self.high is None:
            raise ValueError("give either low and high, or choices")
        elif not self.low < self.high:
            raise ValueError("low must be less than high")
        elif self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log takes a low above 0 and no step")
        elif self.step is not None and self.step <= 0:
            raise ValueError("step must be above 0")
        return self

    @property
    def is_integer(self) -> bool:
        """Whether the values are integers."""
        return all(type(value) is int for value in (self.low, self.high, self.step or 1))

    @property
    def example(self) -> Any:
        """One of the values."""
        return self.choices[0] if self.choices else self.low

    def draw(self, source: random.Random) -> Any:
        """Return a random value."""
        if self.choices is not None:
            return source.choice(self.choices)
        assert self.low is not None
        assert self.high is not None
        step = self.step or (1 if self.is_integer else None)
        if self.log:
            edge = 0.5 if self.is_integer else 0.0
            value = math.exp(source.uniform(math.log(self.low - edge), math.log(self.high + edge)))
            value = min(max(round(value) if self.is_integer else value, self.low), self.high)
        elif step is not None:
            value = self.low + step * source.randint(0, int((self.high - self.low) / step + 1e-9))
        else:
            value = source.uniform(self.low, self.high)
        return value


class RandomTable(Table):
    """The table `[random]`: its other keys are parameters."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Distribution]

    runs: PositiveInt
    seed: int = 0

    @property
    def distributions(self) -> dict[str, Distribution]:
        """The distribution of each parameter."""
        return self.__pydantic_extra__


class Named(BaseModel):
    """A class of Optuna and its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The other keys."""
        return dict(self.model_extra or {})


class SearchTable(Table):
    """The table `[search]`: its other keys are parameters.

    Attributes:
        trials: The number of runs.
        objective: The metric that the notebook records.
        direction: Whether a greater or a smaller value is better.
        sampler: A sampler of Optuna by the name of its class, or a table with its arguments.
        pruner: A pruner of Optuna by the name of its class, or a table with its arguments.
        seed: Of the sampler.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Distribution]

    trials: PositiveInt
    objective: str
    direction: Literal["maximize", "minimize"]
    sampler: str | Named = "TPESampler"
    pruner: str | Named = "NopPruner"
    seed: int = 0

    @property
    def distributions(self) -> dict[str, Distribution]:
        """The distribution of each parameter."""
        return self.__pydantic_extra__


class Sweep(Table):
    """The content of a sweep file; see the module for an example."""

    notebook: str | None = None
    lab: str | None = None
    profile: ProfileName | None = None
    repeats: PositiveInt | None = None
    folds: PositiveInt | None = Field(None, ge=2)
    timeout: PositiveFloat | None = None
    cores: PositiveInt = 1
    gpus: NonNegativeInt | list[NonNegativeInt] = 0
    memory_gb: PositiveFloat | None = None
    parameters: dict[str, Any] = Field(default={})
    grid: dict[str, list[Any]] = Field(default={})
    random: RandomTable | None = None
    search: SearchTable | None = None
    slurm: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _check(self) -> "Sweep":
        if (self.notebook is None) == (self.lab is None):
            raise ValueError("give either 'notebook' or 'lab'")
        return self


SweepFile = TomlFile[Sweep]


def read_sweep(path: Path) -> SweepFile:
    """Read and validate a sweep file.

    Raises:
        Invalid: It is not valid; the message names the file, the line and the key.
        NotFound: There is no such file.
    """
    file = read_toml(path, Sweep, "sweep file")
    _check_tables(file)
    return file


def parameter_sets(file: SweepFile, names: Collection[str]) -> list[dict[str, Any]]:
    """Return the parameters of each run of a sweep that is no search.

    Args:
        file: The sweep.
        names: The parameters that the notebook has.

    Raises:
        Invalid: The notebook has no parameter for the seeds or the folds.
    """
    sweep = file.content
    draws: list[dict[str, Any]] = [{}]
    if sweep.random:
        source = random.Random(sweep.random.seed)  # noqa: S311 - no secret
        draws = [
            {name: value.draw(source) for name, value in sweep.random.distributions.items()}
            for _ in range(sweep.random.runs)
        ]
    grid = [
        dict(zip(sweep.grid, values, strict=True))
        for values in itertools.product(*sweep.grid.values())
    ]
    repeats = _numbered(file, "repeats", sweep.repeats, _SEEDS, names)
    folds = _numbered(file, "folds", sweep.folds, (_FOLD,), names)
    return [
        {name: value for part in parts for name, value in part.items()}
        for parts in itertools.product([sweep.parameters], grid, draws, repeats, folds)
    ]


def varied(sweep: Sweep) -> Iterator[tuple[tuple[str, ...], str, Sequence[Any]]]:
    """Yield each parameter that a sweep sets: its key, its name, and values that it may have."""
    for name, value in sweep.parameters.items():
        yield ("parameters", name), name, [value]
    for name, values in sweep.grid.items():
        yield ("grid", name), name, values
    for table in ("random", "search"):
        if found := getattr(sweep, table):
            for name, distribution in found.distributions.items():
                values = distribution.choices or [distribution.low, distribution.high]
                yield (table, name), name, values


def _numbered(
    file: SweepFile, key: str, count: int | None, choices: tuple[str, ...], names: Collection[str]
) -> list[dict[str, Any]]:
    """Return the values 0, 1, … of the first of `choices` that the notebook has."""
    if count is None:
        return [{}]
    name = next((name for name in choices if name in names), None)
    if name is None:
        raise Invalid(
            f"{file.place(key)}: '{key}' needs a parameter {' or '.join(choices)}, which the "
            "notebook does not have. Add it to the cell tagged 'parameters'."
        )
    if any(name == other for _, other, _ in varied(file.content)):
        raise Invalid(f"{file.place(key)}: '{key}' sets the parameter {name}, which is set below.")
    return [{name: number} for number in range(count)]


def _check_tables(file: SweepFile) -> None:
    """Check what concerns several tables."""
    sweep = file.content
    if sweep.profile is not None and sweep.lab is None:
        raise Invalid(f"{file.place('profile')}: 'profile' is for a lab; a notebook has none.")
    for forbidden in ("grid", "random", "repeats", "folds"):
        if sweep.search and getattr(sweep, forbidden):
            raise Invalid(
                f"{file.place(forbidden)}: '{forbidden}' cannot be combined with [search]."
            )
    for table in ("random", "search"):
        if getattr(sweep, table) and not getattr(sweep, table).distributions:
            raise Invalid(f"{file.place(table)}: [{table}] names no parameter. Add one.")
    first: dict[str, tuple[str, ...]] = {}
    for key, name, values in varied(sweep):
        if name in first:
            raise Invalid(f"{file.place(*key)}: {name} is already set in [{first[name][0]}].")
        if not values:
            raise Invalid(f"{file.place(*key)}: '{'.'.join(key)}' has no values. Add one.")
        first[name] = key
