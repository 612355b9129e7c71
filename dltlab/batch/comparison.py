"""Compare runs: parameters that differ beside metrics, repeats grouped: `compare`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dltlab.batch.records import (
    RunRecord,
    differing_parameters,
    is_number,
    lower_is_better,
    metric_names,
    value_text,
)
from dltlab.batch.run_folder import Status
from dltlab.display import PALETTE, Result, plain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_REPEATS = ("seed", "fold", "repeat")  # in any case, also as in `data_seed`
_MAX_BARS = 30  # of the figure
_MAX_LABEL = 50  # characters


@dataclass(frozen=True)
class Mean:
    """A metric over repeated runs.

    Attributes:
        mean: The mean.
        std: The standard deviation of a sample; None for a single run.
        runs: The number of runs that have the metric.
    """

    mean: float
    std: float | None
    runs: int

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {self.std:.2g}"
        return f"{self.mean:.4g}{spread}"


@dataclass(frozen=True)
class Group:
    """Runs of a notebook that differ at most in their seed or fold.

    Attributes:
        name: The name of the notebook.
        source_hash: The hash of the notebook's cells.
        parameters: The parameters, without the seed and the fold.
        metrics: Each metric of numbers over the runs.
        runs: The ids of the runs.
        best: The metrics in which no other group of the notebook is better.
    """

    name: str
    source_hash: str
    parameters: dict[str, Any]
    metrics: dict[str, Mean]
    runs: tuple[str, ...]
    best: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Runs that are done, compared; the best of each notebook first.

    Attributes:
        groups: The runs, repeats grouped.
        parameters: The names of the parameters that differ.
        metrics: The names of the metrics, those that most runs have first.
        left_out: The number of runs that are not done.
    """

    groups: tuple[Group, ...]
    parameters: tuple[str, ...]
    metrics: tuple[str, ...]
    left_out: int

    _max_rows: ClassVar[int] = 1000

    @property
    def summary(self) -> str:
        """How many runs are compared, and which is best in the first metric."""
        num_runs = sum(len(group.runs) for group in self.groups)
        runs = "1 run that is done" if num_runs == 1 else f"{num_runs} runs that are done"
        settings = "1 setting" if len(self.groups) == 1 else f"{len(self.groups)} settings"
        sentences = [f"{runs}, in {settings}."]
        if self.left_out:
            sentences.append(f"{self.left_out} that are not done are left out.")
        if self.metrics:
            metric = self.metrics[0]
            sentences += [
                self._best_text(group, metric) for group in self.groups if metric in group.best
            ]
        return " ".join(sentences)

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each group: parameters, number of runs, and means; * marks the best."""
        import pandas as pd

        has_versions = len({(g.name, g.source_hash) for g in self.groups}) > len(
            {g.name for g in self.groups}
        )
        rows = [
            {
                "notebook": group.name,
                **({"version": group.source_hash[:7]} if has_versions else {}),
                **{name: value_text(group.parameters.get(name)) for name in self.parameters},
                "runs": len(group.runs),
                **{name: self._cell(group, name) for name in self.metrics},
            }
            for group in self.groups
        ]
        return pd.DataFrame(rows)

    @property
    def alt(self) -> str:
        """What the figure shows."""
        return f"Dot plot of {self.metrics[0]}. {self.summary}" if self.metrics else self.summary

    def figure(self) -> "Figure | None":
        """Draw the first metric of each group with its standard deviation; None without metrics."""
        from matplotlib.figure import Figure

        metric = self.metrics[0] if self.metrics else ""
        groups = [group for group in self.groups if metric in group.metrics][:_MAX_BARS]
        if not groups:
            return None
        figure = Figure(figsize=(7, 1.2 + 0.3 * len(groups)), layout="constrained")
        axes = figure.subplots()
        for row, group in enumerate(groups):
            mean, color = group.metrics[metric], PALETTE[1 if metric in group.best else 0]
            axes.errorbar(mean.mean, row, xerr=mean.std, fmt="o", color=color, capsize=3)
        axes.set_yticks(range(len(groups)), [self._label(group) for group in groups])
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
        axes.set(title=f"{metric}, mean and standard deviation", xlabel=metric)
        return figure

    def as_dict(self) -> dict[str, Any]:
        """Return the groups, ready for JSON."""
        return {"groups": plain(self.groups), "left_out": self.left_out}

    def _cell(self, group: Group, metric: str) -> str:
        if metric not in group.metrics:
            return "–"
        return f"{group.metrics[metric]}{' *' if metric in group.best else ''}"

    def _best_text(self, best: Group, metric: str) -> str:
        mean = best.metrics[metric]
        rivals = [
            group
            for group in self.groups
            if group is not best and group.name == best.name and metric in group.metrics
            and abs(group.metrics[metric].mean - mean.mean) <= (mean.std or 0)
        ]  # fmt: skip
        runs = f"{mean.runs} run{'s' if mean.runs != 1 else ''}"
        close = f", {len(rivals)} within one standard deviation of it" if rivals else ""
        return f"Best {metric}: {mean} ({runs}) with {self._label(best)}{close}."

    def _label(self, group: Group) -> str:
        values = [
            f"{name}={value_text(group.parameters[name])}"
            for name in self.parameters
            if name in group.parameters
        ]
        text = ", ".join(values) or group.name
        return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"


def compare(records: Sequence[RunRecord]) -> Comparison:
    """Compare the runs that are done.

    Runs of a notebook that differ only in a parameter named seed, fold or repeat are one group,
    with the mean and the standard deviation of its metrics. The best is the highest mean, or the
    lowest where a search in the folder minimizes the metric, or its name is that of a loss, an
    error, a time or a size.

    Args:
        records: The runs.
    """
    done = [record for record in records if record.state.status is Status.DONE]
    repeats: dict[str, list[RunRecord]] = {}
    for record in done:
        settings = [record.run.name, record.run.source_hash, _settings(record)]
        repeats.setdefault(json.dumps(plain(settings), sort_keys=True), []).append(record)
    metrics = tuple(
        name
        for name in metric_names(done)
        if any(is_number(record.values.get(name)) for record in done)
    )
    groups = [_group(group, metrics) for group in repeats.values()]
    lower = lower_is_better(metrics, done[0].folder.path.parent) if done else {}
    marked = [
        _marked(g, [other for other in groups if other.name == g.name], lower) for g in groups
    ]
    parameters = [name for name in differing_parameters(done) if not _is_repeat(name)]
    return Comparison(
        groups=tuple(sorted(marked, key=lambda group: _rank(group, lower))),
        parameters=tuple(parameters),
        metrics=metrics,
        left_out=len(records) - len(done),
    )


def _is_repeat(parameter: str) -> bool:
    return parameter.lower().rpartition("_")[2] in _REPEATS


def _settings(record: RunRecord) -> dict[str, Any]:
    return {name: value for name, value in record.run.parameters.items() if not _is_repeat(name)}


def _group(records: Sequence[RunRecord], metrics: Iterable[str]) -> Group:
    import numpy as np

    means = {}
    for name in metrics:
        values = [float(r.values[name]) for r in records if is_number(r.values.get(name))]
        if values:
            with np.errstate(invalid="ignore"):  # of infinite values
                std = float(np.std(values, ddof=1)) if len(values) > 1 else None
                means[name] = Mean(float(np.mean(values)), std, len(values))
    first = records[0]
    return Group(
        first.run.name,
        first.run.source_hash,
        _settings(first),
        means,
        tuple(record.id for record in records),
    )


def _cost(group: Group, metric: str, lower: Mapping[str, bool]) -> float:
    """Return a number that is lower for a better mean; infinity without one."""
    if metric not in group.metrics:
        return float("inf")
    mean = group.metrics[metric].mean
    cost = mean if lower[metric] else -mean
    return cost if cost == cost else float("inf")  # NaN is not equal to itself


def _marked(group: Group, rivals: Sequence[Group], lower: Mapping[str, bool]) -> Group:
    best = [
        metric
        for metric in group.metrics
        if len(rivals) > 1
        and _cost(group, metric, lower) < float("inf")
        and _cost(group, metric, lower) <= min(_cost(rival, metric, lower) for rival in rivals)
    ]
    return Group(**vars(group) | {"best": tuple(best)})


def _rank(group: Group, lower: Mapping[str, bool]) -> tuple[str, list[float]]:
    return group.name, [_cost(group, metric, lower) for metric in lower]
