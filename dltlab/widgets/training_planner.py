"""Plan the time, memory, energy and cost of a training before it runs: `TrainingPlanner`."""

import html
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dltlab.display import show_widget
from dltlab.errors import Invalid, LabError

if TYPE_CHECKING:
    from dltlab.devices import Peaks, StepTime
    from dltlab.models import Cost, TrainingCost

_BATCH_SIZES = tuple(2**power for power in range(11))
_SLOTS = 1  # SGD with momentum
_WIDE = {"description_width": "9em"}
_STYLE = """<style>
.dltlab-planner table { border-collapse: collapse; }
.dltlab-planner td { padding: 2px 12px 2px 0; text-align: left; vertical-align: top; }
</style>"""


@dataclass(frozen=True)
class TrainingPlan:
    """What a training comes to on one device.

    Attributes:
        step: The predicted time of a step.
        hours: Of the whole training.
        kilowatt_hours: None if the power is not known.
        dollars: The price of the device for these hours.
        memory_bytes: What a step needs if the outputs of all layers are kept.
        memory_limit: The memory of the device in bytes; None if it is not known.
        efficiency: The share of the bound that is assumed; 1 where layers were measured.
    """

    step: "StepTime"
    hours: float
    kilowatt_hours: float | None
    dollars: float
    memory_bytes: float
    memory_limit: float | None
    efficiency: float

    @property
    def fits(self) -> bool:
        """Whether a step fits into the memory, as far as that is known."""
        return self.memory_limit is None or self.memory_bytes <= self.memory_limit

    @property
    def rows(self) -> dict[str, str]:
        """The plan as text, by what it says."""
        rate = self.efficiency * self.step.examples_per_second
        limit = max(self.step.limits, key=lambda name: self.step.limits[name])
        of_memory = "" if self.memory_limit is None else f" of {self.memory_limit / 1e9:,.0f}"
        too_large = "" if self.fits else ": does not fit, choose a smaller batch"
        energy = self.kilowatt_hours
        return {
            "Time": f"{_hours_text(self.hours)}, at {rate:,.3g} images/s",
            "Memory": f"about {self.memory_bytes / 1e9:,.2f}{of_memory} GB{too_large}",
            "Energy": "write the power in watts" if energy is None else f"{energy:,.3g} kWh",
            "Cost": f"${self.dollars:,.2f}",
            "Limited by": f"the {limit}, {self.step.limits[limit]:.0%} of a step",
        }


class TrainingPlanner:
    """A widget that plans a training: network, data, device and price give time, energy and cost.

    Devices whose layers were measured are predicted from these; those of the data sheets, which are
    offered too, from the bound by their peaks, times an efficiency to choose. With tensor cores the
    training is in mixed precision, with activations in float16; without them it is in float32. The
    optimizer is SGD with momentum.

    Args:
        costs: Networks by name, as `models.cost` returns them for models in float32.
        measured: Devices by name, as `devices.measure_peaks` returns them.
        num_images: Of the data set.
        epochs: Passes through it.
        dollars_per_hour: The price of a device.
        watts: The power of the measured devices; None if it is not known.

    Attributes:
        widget: The ipywidgets widget, for use in other layouts.

    Raises:
        Invalid: An argument is not a number, or there is no network.
    """

    def __init__(
        self,
        costs: Mapping[str, "Cost"],
        measured: Mapping[str, "Peaks"],
        *,
        num_images: float = 1_280_000,
        epochs: float = 90,
        dollars_per_hour: float | str = 1.0,
        watts: float | None = None,
    ) -> None:
        import ipywidgets

        from dltlab.devices import specs

        if not costs:
            raise Invalid("There is no network to plan for: pass {name: models.cost(model)}.")
        self._costs, self._measured, self._watts = costs, measured, watts
        self._sheets = specs().query("memory_gbps == memory_gbps")  # those whose bandwidth is known
        layout = ipywidgets.Layout(width="26em", max_width="100%")

        def control(kind: Any, description: str, tooltip: str, **values: Any) -> Any:
            return kind(
                description=description, tooltip=tooltip, style=_WIDE, layout=layout, **values
            )

        drop, text = ipywidgets.Dropdown, ipywidgets.Text
        places = [*measured, *self._sheets.index]
        self._network = control(drop, "Network", "The network to train", options=list(costs))
        self._device = control(drop, "Device", "Measured, or of a data sheet", options=places)
        self._batch_size = control(
            ipywidgets.SelectionSlider, "Batch size", "Images in a step",
            options=_BATCH_SIZES, value=64,
        )  # fmt: skip
        self._images = control(text, "Images", "In the data set", value=f"{num_images:,}")
        self._epochs = control(text, "Epochs", "Passes through the data", value=f"{epochs:g}")
        self._price = control(
            text, "Dollars per hour", "Price of a device", value=str(dollars_per_hour)
        )
        self._power = control(text, "Watts", "Power of a device; may be empty")
        self._efficiency = control(
            ipywidgets.FloatSlider, "Efficiency", "Share of the bound that a training reaches",
            value=0.5, min=0.05, max=1, step=0.05,
        )  # fmt: skip
        self._output = ipywidgets.HTML()
        self._store: Callable[[str], None] = lambda html: None
        self._follow_device()
        self.plan  # noqa: B018  an argument that is no number is refused now
        controls = [self._network, self._device, self._batch_size, self._images, self._epochs]
        controls += [self._price, self._power, self._efficiency]
        self.widget = ipywidgets.VBox([ipywidgets.HTML(_STYLE), *controls, self._output]).add_class(
            "dltlab-planner"
        )
        self._device.observe(lambda change: self._follow_device(), "value")
        for each in controls:
            each.observe(lambda change: self._update(), "value")
        self._update()

    @property
    def plan(self) -> TrainingPlan:
        """The plan for the current settings.

        Raises:
            Invalid: A setting is not a number, or a layer of the network cannot be counted.
        """
        from dltlab.devices import predict_step_time, specified_peaks

        name, batch_size = self._device.value, self._batch_size.value
        num_images = _number("The number of images", self._images.value, "1280000")
        epochs = _number("The number of epochs", self._epochs.value, "90")
        price = _number("The price", self._price.value, "2.50", may_be_zero=True)
        watts = (
            _number("The power", self._power.value, "300") if self._power.value.strip() else None
        )
        step = self._costs[self._network.value].training(batch_size, _SLOTS)
        if name in self._measured:
            time, limit = predict_step_time(step, self._measured[name]), None
        else:
            sheet = self._sheets.loc[name]
            dtype = "float16" if sheet["tensor_cores"] else "float32"
            step = _in_float16(step) if sheet["tensor_cores"] else step
            time = predict_step_time(step, specified_peaks(name), dtype)
            limit = 1e9 * sheet["memory_gb"]
        efficiency = self._efficiency.value if time.is_bound else 1.0
        steps = math.ceil(epochs * num_images / batch_size)
        hours = steps * time.seconds / efficiency / 3600
        return TrainingPlan(
            time,
            hours,
            None if watts is None else hours * watts / 1000,
            hours * price,
            step.memory_bytes,
            limit,
            efficiency,
        )

    def show(self) -> None:
        """Show the planner; without a front end, print the plan."""
        self._store = show_widget(self.widget, str(self), self._stored())

    def __str__(self) -> str:
        return "\n".join(f"{name:<12}{text}" for name, text in self._rows().items())

    def _rows(self) -> dict[str, str]:
        """Return the plan as text, or the sentence that says what is wrong."""
        setting = f"{self._network.value} on {self._device.value}"
        try:
            return {"Plan": f"{setting}, {self._batch_size.value} images a step", **self.plan.rows}
        except LabError as error:
            return {"Plan": setting, "Problem": str(error)}

    def _follow_device(self) -> None:
        """Write the device's power, if known, and ask for an efficiency if it has none measured."""
        name = self._device.value
        peaks = self._measured.get(name)
        watts = self._watts if peaks else self._sheets.loc[name, "watts"]
        self._power.value = "" if watts is None or math.isnan(watts) else f"{watts:g}"
        self._efficiency.disabled = bool(peaks and peaks.layers)

    def _update(self) -> None:
        rows = "".join(
            f"<tr><td><b>{name}</b></td><td>{html.escape(text)}</td></tr>"
            for name, text in self._rows().items()
        )
        self._output.value = f'<div aria-live="polite"><table>{rows}</table></div>'
        self._store(self._stored())

    def _stored(self) -> str:
        return f'{_STYLE}<div class="dltlab-planner">{self._output.value}</div>'


def _in_float16(step: "TrainingCost") -> "TrainingCost":
    """Return a step whose activations take half of their bytes."""
    layers = (replace(row, activation_bytes=row.activation_bytes // 2) for row in step.layers)
    return replace(
        step,
        layers=tuple(layers),
        activation_bytes=step.activation_bytes // 2,
        workspace_bytes=step.workspace_bytes // 2,
    )


def _number(what: str, text: str, example: str, *, may_be_zero: bool = False) -> float:
    """Return the number in a text such as "$1,280.50".

    Raises:
        Invalid: It is not a number, or not positive.
    """
    try:
        value = float(text.strip().removeprefix("$").replace(",", ""))
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf or (may_be_zero and value == 0)):
        raise Invalid(f"{what} is {text!r}; write a positive number, as in {example}.")
    return value


def _hours_text(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.3g} s"
    if hours < 1:
        return f"{60 * hours:.3g} min"
    return f"{hours:,.3g} h" if hours < 48 else f"{hours / 24:,.3g} days"
