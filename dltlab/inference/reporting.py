"""Show what a compiler made of a network: `report`."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dltlab.display import NEUTRAL, PALETTE, Result, printable
from dltlab.inference.backends.base import PRECISIONS, Operation
from dltlab.inference.engine import Engine
from dltlab.inference.export import layer_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_BARS = 20  # in the figure: the slowest operations
_MAX_LABEL = 26  # characters
_COLORS: dict[str, str] = dict(zip(PRECISIONS, PALETTE, strict=False))


@dataclass(frozen=True)
class FusedOperation:
    """An operation of the engine, and the layers of the model that it computes.

    Attributes:
        operation: What the backend runs.
        layers: Names of layers, in the model's order; empty for what the compiler added, such as a
            change of layout.
    """

    operation: Operation
    layers: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Time in one call; 0 where the backend does not report it."""
        return self.operation.seconds or 0.0

    @property
    def label(self) -> str:
        """The first of its layers and the number of the others; else its kind."""
        first, *others = self.layers or (self.operation.kind,)
        name = printable(first)
        short = name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 1]}…"
        return f"{short} and {len(others)} more" if others else short


@dataclass(frozen=True, repr=False)
class Report(Result):
    """The result of `report`: a network before and after compilation.

    Attributes:
        title: The engine in a few words.
        layers: Name and kind of every layer call of the model.
        operations: What the engine runs, in order; empty where the backend does not report it.
    """

    title: str
    layers: tuple[tuple[str, str], ...]
    operations: tuple[FusedOperation, ...]

    _max_rows: ClassVar[int] = 60
    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "time (µs)": "{:,.0f}".format,
        "share": "{:.3f}".format,
    }

    @property
    def fused(self) -> dict[str, tuple[str, ...]]:
        """The layers of every operation that computes more than one, by the operation's name."""
        return {row.operation.name: row.layers for row in self.operations if len(row.layers) > 1}

    @property
    def layer_kinds(self) -> Counter[str]:
        """The number of layers of each kind."""
        return Counter(kind for _, kind in self.layers)

    @property
    def operation_kinds(self) -> Counter[str]:
        """The number of operations of each kind."""
        return Counter(row.operation.kind for row in self.operations)

    @property
    def removed(self) -> tuple[str, ...]:
        """The layers that no operation computes, alone or with others."""
        computed = {name for row in self.operations for name in row.layers}
        names = [name for name, _ in self.layers if name not in computed]
        return tuple(names) if self.operations else ()

    def kinds(self) -> "pd.DataFrame":
        """Return a row for each kind: its layers in the model, its operations in the engine.

        A kind of operation is in the row of the kind of layer that most of its operations compute,
        and of equally many the one that comes first: "Conv2D / Convolution".
        """
        import pandas as pd

        layers, operations = self.layer_kinds, Counter[str]()
        operation_kinds: dict[str, list[str]] = {}  # in each row
        for kind, count in self.operation_kinds.items():
            computed = self._layer_kinds_of(kind)
            row = max(computed, key=lambda name: computed[name], default=kind)
            operations[row] += count
            operation_kinds.setdefault(row, []).append(kind)
        kinds = sorted(layers | operations)
        return pd.DataFrame(
            {
                "kind": [_row_label(kind, operation_kinds.get(kind, [])) for kind in kinds],
                "layers": [layers[kind] for kind in kinds],
                "operations": [operations[kind] for kind in kinds],
            }
        )

    def _layer_kinds_of(self, operation_kind: str) -> Counter[str]:
        """Return in how many operations of a kind a layer of each kind is, in the model's order."""
        kind_of = dict(self.layers)
        return Counter(
            kind
            for row in self.operations
            if row.operation.kind == operation_kind
            for kind in dict.fromkeys(kind_of[name] for name in row.layers)
        )

    @property
    def summary(self) -> str:
        """The numbers of layers and operations, their precisions, and the slowest operation."""
        if not self.operations:
            return (
                f"{self.title}: {len(self.layers)} layers; this backend does not report its "
                "operations."
            )
        precisions = Counter(row.operation.precision for row in self.operations)
        counts = ", ".join(f"{count} in {name}" for name, count in precisions.most_common())
        slowest = max(self.operations, key=lambda row: row.seconds)
        return (
            f"{self.title}: {len(self.layers)} layers became {len(self.operations)} operations "
            f"({counts}); {len(self.fused)} of them compute more than one layer. The slowest is "
            f"{slowest.label}."
        )

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each operation: its kind, its layers, its precision and its time."""
        import pandas as pd

        total = sum(row.seconds for row in self.operations)
        rows = [
            (
                row.operation.kind,
                " + ".join(row.layers),
                row.operation.precision,
                1e6 * row.seconds,
                row.seconds / total if total else 0.0,
            )
            for row in self.operations
        ]
        columns = ["operation", "layers", "precision", "time (µs)", "share"]
        return pd.DataFrame(rows, columns=columns)

    def figure(self) -> "Figure":
        """Draw the kinds before and after, and the slowest operations."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 5.5), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
        self._draw_kinds(left)
        self._draw_times(right)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(self.title)
        return figure

    def _draw_kinds(self, axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        kinds = self.kinds()
        places = range(len(kinds))
        axes.barh(places, kinds["layers"], 0.8, color=PALETTE[4], label="layers")
        axes.barh(places, kinds["operations"], 0.4, color=PALETTE[1], label="operations")
        axes.set_yticks(places, kinds["kind"], fontsize=8)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(title="Layers and operations", xlabel="number")
        axes.legend(fontsize=8)

    def _draw_times(self, axes: "Axes") -> None:
        from matplotlib.patches import Patch

        slowest = sorted(self.operations, key=lambda row: -row.seconds)[:_MAX_BARS]
        precisions = [row.operation.precision for row in slowest]
        axes.barh(
            range(len(slowest)),
            [1e6 * row.seconds for row in slowest],
            color=[_COLORS.get(precision, NEUTRAL) for precision in precisions],
        )
        axes.set_yticks(range(len(slowest)), [row.label for row in slowest], fontsize=7)
        axes.invert_yaxis()
        axes.set(title="The slowest operations", xlabel="time in one call (µs)")
        handles = [
            Patch(color=color, label=name) for name, color in _COLORS.items() if name in precisions
        ]
        axes.legend(handles=handles, fontsize=8, loc="lower right")


def _row_label(kind: str, operation_kinds: list[str]) -> str:
    """Return a kind of layer with the first of the other kinds of operations that compute it."""
    first, *others = [name for name in operation_kinds if name != kind] or [""]
    return kind + (f" / {first}" if first else "") + (" / …" if others else "")


def report(engine: Engine) -> Report:
    """Return the operations that an engine runs, with the layers in each and the time it takes."""
    names = [name for name, _ in engine.manifest.layers]
    places = {name: place for place, name in enumerate(names)}
    operations = []
    for operation in engine.operations():
        layers = {layer_of(source, places) for source in operation.sources} - {""}
        operations.append(FusedOperation(operation, tuple(sorted(layers, key=places.__getitem__))))
    title = f"{engine.manifest.title}, batch size {engine.settings.batch_size}"
    return Report(title, engine.manifest.layers, tuple(operations))
