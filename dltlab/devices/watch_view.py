"""What a watch shows: a live panel, a figure, and the same in words."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from dltlab.devices.sampler import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_QUANTITIES = {
    "percent": ("utilization", "%"),
    "memory_gib": ("memory", "GiB"),
    "watts": ("power", "W"),
    "celsius": ("temperature", "°C"),
}
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito's
_LIVE_ROWS, _LIVE_POINTS = 300, 60  # the last half minute, in so many points
_WIDTH, _HEIGHT = 240, 28
_HEADROOM = 1.2  # above the highest value, so that a constant can be seen


def columns(rows: Sequence[Row]) -> list[str]:
    """The meters that tell anything, the CPU's first."""
    found = dict.fromkeys(name for row in rows for name in row if name != "seconds")
    return sorted(found, key=lambda name: (_device(name) != "CPU", _device(name)))


def panel(rows: Sequence[Row]) -> str:
    """A table as HTML: for each meter its name, its course in the last half minute, and now."""
    recent = rows[-_LIVE_ROWS :: max(1, min(len(rows), _LIVE_ROWS) // _LIVE_POINTS)]
    lines = "".join(_panel_row(name, recent) for name in columns(recent))
    return (
        "<table class='dltlab-watch' style='border-spacing: 10px 2px; "
        f"color: var(--jp-content-font-color1, inherit)'>{lines}</table>"
    )


def line(rows: Sequence[Row]) -> str:
    """Where the meters stand, in one line."""
    if not rows:
        return "Watching …"
    last = rows[-1]
    meters = [meter(name, last[name]) for name in columns([last])]
    return f"{last['seconds']:.1f} s: {', '.join(meters)}"


def meter(name: str, value: float) -> str:
    """A meter and its value in words, such as "GPU 0 power 250 W"."""
    return f"{_label(name)} {_value(name, value)}"


def _panel_row(name: str, rows: Sequence[Row]) -> str:
    points = [(row["seconds"], row[name]) for row in rows if name in row]
    first, last = rows[0]["seconds"], rows[-1]["seconds"]
    top = _top(name, [value for _, value in points])
    course = " ".join(
        f"{_WIDTH * (second - first) / max(last - first, 1e-9):.0f},"
        f"{_HEIGHT - 2 - (_HEIGHT - 4) * min(value / top, 1):.0f}"
        for second, value in points
    )
    gone = "" if name in rows[-1] else " (no longer told)"
    return (
        f"<tr><th style='text-align: left'>{escape(_label(name))}</th>"
        f"<td><svg width='{_WIDTH}' height='{_HEIGHT}' aria-hidden='true' style='background: "
        f"#f4f4f4'><polyline fill='none' stroke='{_color(name)}' "
        f"stroke-width='1.5' points='{course}'/></svg></td>"
        f"<td style='text-align: right; font-variant-numeric: tabular-nums'>"
        f"{_value(name, points[-1][1])}{gone}</td></tr>"
    )


def draw(rows: Sequence[Row], title: str) -> "Figure":
    """The meters over time: a panel for each quantity that any device told."""
    from matplotlib.figure import Figure

    names = columns(rows)
    quantities = [key for key in _QUANTITIES if any(_quantity(name) == key for name in names)]
    figure = Figure(figsize=(3 * len(quantities) + 1.2, 3), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, key in zip(panels, quantities, strict=True):
        what, unit = _QUANTITIES[key]
        for name in filter(lambda name: _quantity(name) == key, names):
            points = [(row["seconds"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True), color=_color(name), label=_device(name))
        axes.set(title=what, xlabel="time (s)", ylabel=f"{what} ({unit})")
        highest = max(row[name] for row in rows for name in row if _quantity(name) == key)
        axes.set_ylim(0, 105 if key == "percent" else max(highest * _HEADROOM, 1e-9))
        axes.grid(alpha=0.3)
    handles = {line.get_label(): line for axes in panels for line in axes.lines}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    return figure


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
    return _COLORS[0 if device == "CPU" else 1 + int(device[4:]) % (len(_COLORS) - 1)]


def _top(name: str, values: Sequence[float]) -> float:
    return 100.0 if _quantity(name) == "percent" else max([*values, 1e-9]) * _HEADROOM
