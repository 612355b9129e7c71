"""How a watch is shown: a live panel, a figure, and one line of text."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from dltlab.devices.sampler import Row
from dltlab.display import NEUTRAL, PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_QUANTITIES = {
    "percent": ("utilization", "%"),
    "memory_gib": ("memory", "GiB"),
    "watts": ("power", "W"),
    "celsius": ("temperature", "°C"),
}
_LIVE_ROWS, _LIVE_POINTS = 300, 60  # the last half minute, in so many points
_WIDTH, _HEIGHT = 240, 28  # of a curve in the panel, in pixels
_HEADROOM = 1.2  # above the highest value, so that a constant curve can be seen


def column_names(rows: Sequence[Row]) -> list[str]:
    """Return the names of all quantities in `rows`, the CPU's first."""
    names = dict.fromkeys(name for row in rows for name in row if name != "seconds")
    return sorted(names, key=lambda name: (_device(name) != "CPU", _device(name)))


def panel(rows: Sequence[Row]) -> str:
    """Return an HTML table: for each quantity its name, the last half minute, and its value."""
    recent = rows[-_LIVE_ROWS :: max(1, min(len(rows), _LIVE_ROWS) // _LIVE_POINTS)]
    lines = "".join(_panel_row(name, recent) for name in column_names(recent))
    return (
        "<table class='dltlab-watch' style='border-spacing: 10px 2px; "
        f"color: var(--jp-content-font-color1, inherit)'>{lines}</table>"
    )


def line(rows: Sequence[Row]) -> str:
    """Return the latest values in one line of text."""
    if not rows:
        return "Watching …"
    last = rows[-1]
    values = [reading(name, last[name]) for name in column_names([last])]
    return f"{last['seconds']:.1f} s: {', '.join(values)}"


def reading(name: str, value: float) -> str:
    """Return a quantity and its value in words, such as "GPU 0 power 250 W"."""
    return f"{_label(name)} {_value(name, value)}"


def draw(rows: Sequence[Row], title: str) -> "Figure":
    """Draw the quantities over time: a panel for each that any device reported."""
    from matplotlib.figure import Figure

    names = column_names(rows)
    quantities = [key for key in _QUANTITIES if any(_quantity(name) == key for name in names)]
    figure = Figure(figsize=(3 * len(quantities) + 1.2, 3), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, key in zip(panels, quantities, strict=True):
        label, unit = _QUANTITIES[key]
        for name in filter(lambda name: _quantity(name) == key, names):
            points = [(row["seconds"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True), color=_color(name), label=_device(name))
        axes.set(title=label, xlabel="time (s)", ylabel=f"{label} ({unit})")
        highest = max(row[name] for row in rows for name in row if _quantity(name) == key)
        axes.set_ylim(0, 105 if key == "percent" else max(highest * _HEADROOM, 1e-9))
        axes.grid(color=NEUTRAL, alpha=0.3)
    handles = {line.get_label(): line for axes in panels for line in axes.lines}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    return figure


def _panel_row(name: str, rows: Sequence[Row]) -> str:
    points = [(row["seconds"], row[name]) for row in rows if name in row]
    first, last = rows[0]["seconds"], rows[-1]["seconds"]
    top = _top(name, [value for _, value in points])
    curve = " ".join(
        f"{_WIDTH * (second - first) / max(last - first, 1e-9):.0f},"
        f"{_HEIGHT - 2 - (_HEIGHT - 4) * min(value / top, 1):.0f}"
        for second, value in points
    )
    lost = "" if name in rows[-1] else " (no longer reported)"
    return (
        f"<tr><th style='text-align: left'>{escape(_label(name))}</th>"
        f"<td><svg width='{_WIDTH}' height='{_HEIGHT}' aria-hidden='true' style='background: "
        f"#f4f4f4'><polyline fill='none' stroke='{_color(name)}' "
        f"stroke-width='1.5' points='{curve}'/></svg></td>"
        f"<td style='text-align: right; font-variant-numeric: tabular-nums'>"
        f"{_value(name, points[-1][1])}{lost}</td></tr>"
    )


def _quantity(name: str) -> str:
    return next((key for key in _QUANTITIES if name.endswith(key)), "")


def _device(name: str) -> str:
    return f"GPU {name[3:].partition('_')[0]}" if name.startswith("gpu") else "CPU"


def _label(name: str) -> str:
    return f"{_device(name)} {_QUANTITIES[_quantity(name)][0]}"


def _value(name: str, value: float) -> str:
    digits = 2 if _quantity(name) == "memory_gib" else 0
    space = "" if _quantity(name) == "percent" else " "
    return f"{value:.{digits}f}{space}{_QUANTITIES[_quantity(name)][1]}"


def _color(name: str) -> str:
    device = _device(name)
    return PALETTE[0 if device == "CPU" else 1 + int(device[4:]) % (len(PALETTE) - 1)]


def _top(name: str, values: Sequence[float]) -> float:
    return 100.0 if _quantity(name) == "percent" else max([*values, 1e-9]) * _HEADROOM
