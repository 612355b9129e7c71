"""What a compiler made of a network: `Report`."""

import html
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dltlab.display import printable
from dltlab.inference.backends import Operation
from dltlab.inference.engine import Engine
from dltlab.inference.export import owner

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MOST_ROWS = 60
_BARS = 20  # operations in the figure, the slowest ones
_LONGEST = 26  # characters of a name
_SHADES = {"float32": "#D55E00", "bfloat16": "#0072B2", "float16": "#CC79A7", "int8": "#009E73"}
_OTHER = "#777777"


@dataclass(frozen=True)
class Fused:
    """An operation of the engine, and the layers of the model that it does.

    Attributes:
        operation: What the backend runs.
        layers: Names of layers, in the model's order; empty for what the compiler has put in, such
            as a change of layout.
    """

    operation: Operation
    layers: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Report:
    """A network before and after; a notebook shows it as a table.

    Attributes:
        engine: In words.
        before: Name and kind of every layer call of the model.
        after: What the engine runs, in order; empty where the backend does not tell.
    """

    engine: str
    before: tuple[tuple[str, str], ...]
    after: tuple[Fused, ...]

    @property
    def fused(self) -> dict[str, tuple[str, ...]]:
        """The layers of every operation that does more than one, by its name."""
        return {each.operation.name: each.layers for each in self.after if len(each.layers) > 1}

    @property
    def kinds_before(self) -> Counter[str]:
        """How many layers of each kind the model has."""
        return Counter(kind for _, kind in self.before)

    @property
    def kinds_after(self) -> Counter[str]:
        """How many operations of each kind the engine runs."""
        return Counter(each.operation.kind for each in self.after)

    @property
    def gone(self) -> tuple[str, ...]:
        """Layers for which no operation is left, by themselves or with others."""
        alive = {name for each in self.after for name in each.layers}
        return tuple(name for name, _ in self.before if name not in alive) if self.after else ()

    def kinds(self) -> "pd.DataFrame":
        """A row for each kind of layer or operation, before and after."""
        import pandas as pd

        before, after = self.kinds_before, self.kinds_after
        names = sorted(before | after)
        return pd.DataFrame(
            {
                "kind": names,
                "layers before": [before[name] for name in names],
                "operations after": [after[name] for name in names],
            }
        )

    def table(self) -> "pd.DataFrame":
        """A row for each operation of the engine: what it is, what was fused, precision, time."""
        import pandas as pd

        total = sum(each.operation.seconds or 0.0 for each in self.after)
        rows = [
            (
                *(each.operation.kind, " + ".join(each.layers), each.operation.precision),
                1e6 * (each.operation.seconds or 0.0),
                (each.operation.seconds or 0.0) / total if total else 0.0,
            )
            for each in self.after
        ]
        return pd.DataFrame(rows, columns=["operation", "layers", "precision", "µs", "share"])

    def figure(self) -> tuple["Figure", str]:
        """Kinds before and after, and the slowest operations; and that in words."""
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        figure = Figure(figsize=(10, 5.5), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
        table = self.kinds()
        places = range(len(table))
        left.barh([p - 0.2 for p in places], table["layers before"], 0.4, color="#0072B2")
        left.barh([p + 0.2 for p in places], table["operations after"], 0.4, color="#D55E00")
        left.set_yticks(places, table["kind"], fontsize=8)
        left.invert_yaxis()
        left.set(title="The graph", xlabel="how many")
        left.legend(
            handles=[Patch(color="#0072B2", label="layers before"),
                     Patch(color="#D55E00", label="operations after")], fontsize=8,
        )  # fmt: skip
        slowest = sorted(self.after, key=lambda each: -(each.operation.seconds or 0.0))[:_BARS]
        colors = [_SHADES.get(each.operation.precision, _OTHER) for each in slowest]
        right.barh(
            range(len(slowest)), [1e6 * (each.operation.seconds or 0.0) for each in slowest],
            color=colors,
        )  # fmt: skip
        right.set_yticks(range(len(slowest)), [_label(each) for each in slowest], fontsize=7)
        right.invert_yaxis()
        right.set(title="Where the time goes", xlabel="time in one call (µs)")
        used = [name for name in _SHADES if any(e.operation.precision == name for e in slowest)]
        right.legend(
            handles=[Patch(color=_SHADES[name], label=name) for name in used],
            fontsize=8,
            loc="lower right",
        )
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(self.engine)
        return figure, self._sentence

    def show(self) -> None:
        """Show the figure."""
        from dltlab.display import show

        show(*self.figure())

    @property
    def _sentence(self) -> str:
        if not self.after:
            return (
                f"{self.engine}: {len(self.before)} layers; this backend does not tell what it "
                "made of them."
            )
        precisions = Counter(each.operation.precision for each in self.after)
        within = ", ".join(f"{count} in {name}" for name, count in precisions.most_common())
        slowest = max(self.after, key=lambda each: each.operation.seconds or 0.0)
        return (
            f"{self.engine}: {len(self.before)} layers became {len(self.after)} operations "
            f"({within}); {len(self.fused)} of them do more than one layer. The slowest is "
            f"{_label(slowest)}."
        )

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False, max_rows=_MOST_ROWS, formatters=_FORMATS)
        return f"<p>{html.escape(self._sentence)}</p>{table if self.after else ''}"

    def __repr__(self) -> str:
        if not self.after:
            return self._sentence
        table = self.table().to_string(index=False, max_rows=_MOST_ROWS, formatters=_FORMATS)
        return f"{self._sentence}\n{table}"


def report_of(engine: Engine) -> Report:
    """Ask the backend of an engine what it runs, and how long each piece takes."""
    about = engine.manifest
    names = [name for name, _ in about.layers]
    places = {name: place for place, name in enumerate(names)}
    after = []
    for operation in engine.operations():
        owners = {owner(each, places) for each in operation.sources} - {""}
        layers = tuple(sorted(owners, key=places.__getitem__))
        after.append(Fused(operation, layers))
    title = f"{about.model} on {about.backend} in {about.precision}, batch {engine.settings.batch}"
    return Report(title, about.layers, tuple(after))


def _label(each: Fused) -> str:
    """The first of its layers, and how many more; else what kind it is."""
    first, *more = each.layers or (each.operation.kind,)
    text = printable(first)
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return f"{short} and {len(more)} more" if more else short


_FORMATS = {"µs": "{:,.0f}".format, "share": "{:.1%}".format}
