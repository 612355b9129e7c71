"""`TrainingPlanner`: what its settings come to, and what it says about wrong ones."""

from dataclasses import replace
from typing import Any

import keras
import pytest
from keras import layers

from dltlab import models
from dltlab.devices import Peaks
from dltlab.devices.layer_rates import PASSES, Rate
from dltlab.errors import Invalid
from dltlab.widgets import TrainingPlanner, training_planner

PEAKS = Peaks("a device", {"float32": 1e9}, 1e8, {})


@pytest.fixture(scope="module")
def costs() -> dict[str, models.Cost]:
    """A network that can be counted, and one that cannot."""
    plain = keras.Sequential([keras.Input((100,)), layers.Dense(50, use_bias=False)])
    strange = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x, name="mystery")])
    return {"plain": models.cost(plain), "strange": models.cost(strange)}


def planner(costs: dict[str, models.Cost], **options: Any) -> TrainingPlanner:
    return TrainingPlanner(costs, {"mine": PEAKS}, num_images=6400, epochs=10, **options)


def control(planner: TrainingPlanner, description: str) -> Any:
    (found,) = [
        widget
        for widget in planner.widget.children
        if getattr(widget, "description", "") == description
    ]
    return found


def shown(planner: TrainingPlanner) -> str:
    return str(planner.widget.children[-1].value)


def test_time_energy_and_cost_follow_from_the_step(costs):
    plan = planner(costs, dollars_per_hour=3, watts=200).plan
    # The forward pass and one gradient are limited by the FLOPs, the update by the bytes moved.
    seconds = 2 * (2 * 64 * 5000 / 1e9) + 4 * 5 * 5000 / 1e8
    assert plan.step.seconds == pytest.approx(seconds)
    assert plan.hours == pytest.approx(1000 * seconds / 0.5 / 3600)  # at half of the bound
    assert plan.kilowatt_hours == pytest.approx(plan.hours * 0.2)
    assert plan.dollars == pytest.approx(plan.hours * 3)
    assert (plan.memory_limit, plan.fits) == (None, True)


def test_devices_of_data_sheets_have_a_memory_and_a_power(costs):
    widget = planner(costs)
    control(widget, "Device").value = "V100"
    plan = widget.plan
    assert plan.memory_limit == 16e9
    assert plan.step.device == "Tesla V100 SXM2"
    assert control(widget, "Watts").value == "300"
    assert "Tesla" not in shown(widget)
    assert "plain on V100" in shown(widget)
    control(widget, "Device").value = "mine"
    assert control(widget, "Watts").value == ""
    assert "write the power in watts" in shown(widget)


def test_measured_layers_need_no_efficiency(costs):
    rate = {name: Rate(per_flop=1e-9) for name in PASSES}
    layers = {"Dense": rate, "elementwise": rate, "optimizer": {"forward": Rate()}}
    widget = TrainingPlanner(costs, {"mine": replace(PEAKS, layers=layers)})
    assert control(widget, "Efficiency").disabled
    assert widget.plan.efficiency == 1
    assert widget.plan.step.seconds == pytest.approx(2 * (2 * 64 * 5000 / 1e9))
    control(widget, "Device").value = "V100"
    assert not control(widget, "Efficiency").disabled


def test_training_that_does_not_fit_is_reported():
    large = keras.Sequential([keras.Input((1000, 1000, 3)), layers.Conv2D(64, 3)])
    widget = planner({"large": models.cost(large)})
    control(widget, "Device").value = "T4"
    assert not widget.plan.fits
    assert "does not fit, choose a smaller batch" in shown(widget)


@pytest.mark.parametrize(
    ("description", "text", "sentence"),
    [
        ("Dollars per hour", "two dollars", "The price is 'two dollars'; write a positive number"),
        ("Dollars per hour", "-1", "The price is '-1'"),
        ("Images", "many", "The number of images is 'many'"),
        ("Epochs", "0", "The number of epochs is '0'"),
        ("Watts", "nan", "The power is 'nan'"),
    ],
)
def test_setting_that_is_no_number_gets_a_sentence(costs, description, text, sentence):
    widget = planner(costs)
    control(widget, description).value = text
    with pytest.raises(Invalid, match=sentence):
        _ = widget.plan
    assert "Problem" in shown(widget)


def test_numbers_may_have_a_currency_and_separators(costs):
    widget = planner(costs, dollars_per_hour="$1,250.50")
    assert widget.plan.dollars == pytest.approx(widget.plan.hours * 1250.5)
    assert control(widget, "Images").value == "6,400"


def test_price_in_words_is_refused_at_once(costs):
    with pytest.raises(Invalid, match=r"The price is 'two dollars'; .* as in 2.50"):
        planner(costs, dollars_per_hour="two dollars")


def test_network_that_cannot_be_counted_is_named_with_its_layer(costs):
    widget = planner(costs)
    control(widget, "Network").value = "strange"
    assert "The multiply-adds of mystery in" in shown(widget)
    with pytest.raises(Invalid, match="mystery"):
        planner({"strange": costs["strange"]})
    with pytest.raises(Invalid, match="There is no network to plan for"):
        planner({})


def test_every_control_has_a_name_and_a_tooltip(costs):
    controls = [w for w in planner(costs).widget.children if hasattr(w, "description_allow_html")]
    named = [w for w in controls if w.description]
    assert len(named) == 8
    assert all(widget.tooltip for widget in named)


def test_notebook_keeps_the_last_plan(costs, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[str] = []

    def show_widget(widget: Any, text: str, first: str) -> Any:
        stored.append(first)
        return stored.append

    monkeypatch.setattr(training_planner, "show_widget", show_widget)
    widget = planner(costs)
    widget.show()
    control(widget, "Device").value = "H100"
    assert "plain on mine" in stored[0]
    assert "plain on H100" in stored[-1]


def test_plan_is_printed_without_a_front_end(costs, capsys):
    planner(costs, watts=100).show()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("Plan", "Time", "Memory", "Energy", "Cost", "Limited"),
    ]
    assert lines[0].endswith("plain on mine, 64 images a step")
