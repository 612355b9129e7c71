"""How a watch is shown."""

from dltlab.devices import watch_view

ROWS = [
    {"seconds": 0.1 * number, "cpu_percent": 50.0, "gpu1_watts": 100.0 + number, "gpu0_watts": 5.0}
    for number in range(1, 11)
]


def test_the_quantities_of_the_cpu_come_first():
    assert watch_view.column_names(ROWS) == ["cpu_percent", "gpu0_watts", "gpu1_watts"]


def test_the_latest_values_in_one_line():
    assert watch_view.line([]) == "Watching …"
    assert watch_view.line(ROWS) == "1.0 s: CPU utilization 50%, GPU 0 power 5 W, GPU 1 power 110 W"


def test_a_value_has_its_unit():
    assert watch_view.reading("memory_gib", 1.234) == "CPU memory 1.23 GiB"
    assert watch_view.reading("gpu10_celsius", 60.4) == "GPU 10 temperature 60 °C"


def test_the_panel_has_a_row_with_a_curve_for_each_quantity():
    html = watch_view.panel(ROWS)

    assert html.count("<tr>") == html.count("<svg") == 3
    assert "GPU 1 power" in html
    assert "110 W" in html


def test_the_panel_marks_a_device_that_no_longer_reports():
    last = {name: value for name, value in ROWS[-1].items() if name != "gpu0_watts"}

    html = watch_view.panel([*ROWS[:-1], last])

    assert html.count("(no longer reported)") == 1


def test_the_panel_thins_out_a_long_watch():
    rows = [{"seconds": 0.1 * number, "cpu_percent": 50.0} for number in range(10_000)]

    assert watch_view.panel(rows).count(",") <= 61


def test_the_figure_has_a_labelled_panel_for_each_quantity():
    figure = watch_view.draw(ROWS, "Training")

    utilization, power = figure.axes
    assert (utilization.get_title(), power.get_title()) == ("utilization", "power")
    assert power.get_ylabel() == "power (W)"
    assert power.get_xlabel() == "time (s)"
    assert [curve.get_label() for curve in power.lines] == ["GPU 0", "GPU 1"]
    assert power.lines[0].get_color() != power.lines[1].get_color()
