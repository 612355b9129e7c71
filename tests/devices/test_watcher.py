"""Watching devices: with fakes of a clock and of GPUs."""

import json
import math
import threading

import pytest

from dltlab import devices
from dltlab.devices import sampler, watcher
from dltlab.errors import NotFound
from tests.deadlines import HANG_SECONDS


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances by 0.1 s at each sample."""
    now = 0.0

    def perf_counter() -> float:
        nonlocal now
        now += 0.1
        return now

    monkeypatch.setattr(sampler, "perf_counter", perf_counter)


class SampleCounter(threading.Event):
    """Replaces the event that ends a watch: it is set after a given number of waits."""

    def __init__(self, num_waits: int) -> None:
        super().__init__()
        self.waits_left = num_waits
        self.counted = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waits_left -= 1
        if self.waits_left <= 0:
            self.counted.set()
        return self.waits_left <= 0


def watch(num_samples: int, **options):
    """Watch for a number of samples without waiting for them."""
    counter = SampleCounter(num_samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watcher, "Event", lambda: counter)
        with devices.watch(**options) as watched:
            assert counter.counted.wait(HANG_SECONDS)
    return watched


def test_a_block_that_ends_at_once_has_one_sample(no_nvml, capsys):
    with devices.watch() as watched:
        pass

    assert len(watched.table) == 1
    assert list(watched.table.columns)[:3] == ["seconds", "cpu_percent", "memory_gib"]
    assert capsys.readouterr().out == f"{watched.summary}\n"
    assert "dltlab-watch" not in {thread.name for thread in threading.enumerate()}


def test_the_energy_of_two_gpus_and_the_images_per_joule(two_gpus, clock):
    watched = watch(20, num_images=2000)

    table = watched.table
    assert len(table) == 20
    assert table["seconds"].iloc[-1] == pytest.approx(2.0)
    assert set(table["gpu1_watts"]) == {250.0}
    assert set(table["gpu0_percent"]) == {90.0}
    assert watched.joules == pytest.approx(2 * 250 * 2.0)
    assert watched.images_per_joule == pytest.approx(2.0)
    text = "GPU 1 power 250 W, GPU 1 temperature 60 °C. 1,000 J, 2 images per joule."
    assert text in watched.summary
    assert two_gpus.num_sessions == 0


def test_a_lost_gpu_does_not_stop_the_code(nvml, gpu, clock):
    nvml([gpu(answers_left=6), gpu()])

    watched = watch(10, num_images=1)

    assert watched.table["gpu0_watts"].count() == 5
    assert math.isnan(watched.table["gpu0_watts"].iloc[-1])
    assert watched.table["gpu1_watts"].count() == 10
    assert watched.joules == pytest.approx(250 * (1.0 + 0.5))
    assert watched.summary.endswith("GPU 0 was lost after 0.6 s.")


def test_an_exception_in_the_block_is_raised(two_gpus, capsys):
    with pytest.raises(ZeroDivisionError), devices.watch() as watched:
        _ = 1 / 0

    assert len(watched.table) == 1
    assert "GPU 0" in capsys.readouterr().out


def test_without_a_device_that_reports_its_power_there_is_no_energy(no_nvml, clock, kernel_files):
    kernel_files({})

    watched = watch(2, num_images=5)

    assert (watched.joules, watched.images_per_joule) == (None, None)
    assert watched.summary.endswith(
        "No device here reports its power: the system has no energy counters of the processor; "
        "virtual machines have none."
    )


def test_an_unknown_gpu_is_refused(two_gpus):
    with pytest.raises(NotFound, match=r"^There is no GPU 7 to watch; there is 0, 1\.$"):
        devices.watch(gpus=[7]).__enter__()


def test_only_the_chosen_gpus_are_watched(two_gpus, clock, monkeypatch):
    assert "gpu0_watts" not in watch(1, gpus=[1]).table
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "gpu1_watts" not in watch(1).table


def test_a_second_block_replaces_the_samples_of_the_first(no_nvml, clock):
    watched = watch(5)

    with watched:
        pass

    assert len(watched.table) == 1


def test_a_watch_without_samples(capsys):
    watched = devices.watch(title="Training")

    assert watched.summary == "Training: no samples yet."
    assert watched.figure() is None
    assert watched.table.empty
    assert repr(watched).startswith("Training: no samples yet.")


def test_a_notebook_shows_a_panel_then_the_figure_in_its_place(two_gpus, clock, monkeypatch):
    shown = []
    monkeypatch.setattr(watcher, "in_notebook", lambda: True)
    monkeypatch.setattr(watcher, "REDRAW_SECONDS", 0)
    monkeypatch.setattr(watcher, "REDRAW_SHARE", math.inf)
    monkeypatch.setattr(watcher, "SAMPLE_SECONDS", 0)
    monkeypatch.setattr(
        watcher, "show_html", lambda html, text, **options: shown.append((html, text, options))
    )
    monkeypatch.setattr(
        watcher, "show", lambda figure, alt, **options: shown.append((figure, alt, options))
    )

    watched = watch(4)

    assert len({options["display_id"] for *_, options in shown}) == 1
    updates = [options.get("update", False) for *_, options in shown]
    assert updates == [False, True, True, True, True]
    assert "GPU 1 power" in shown[1][0]
    assert "<svg" in shown[1][0]
    figure, alt, _ = shown[-1]
    assert alt == watched.summary
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["utilization", "memory", "power", "temperature"]


def test_a_watch_is_shown_and_exported(two_gpus, clock, capsys):
    watched = watch(3)
    capsys.readouterr()

    watched.show()

    assert capsys.readouterr().out == f"{watched.summary}\n"
    exported = json.loads(json.dumps(watched.as_dict()))
    assert len(exported["samples"]) == 3
    assert exported["samples"][0]["gpu0_watts"] == 250
    assert exported["overhead"] >= 0
