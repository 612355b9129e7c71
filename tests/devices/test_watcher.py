"""Watching devices: with fakes of a clock, of GPUs and of the processor's energy counters."""

import math
import threading

import pytest

from dltlab import devices
from dltlab.devices import sampler, watch_view, watcher
from dltlab.devices.sampler import Sampler
from dltlab.errors import LabError

GIB = 1 << 30


class Clock:
    """Goes on by `step` seconds at each look; the processor is busy for half of that."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def perf_counter(self) -> float:
        self.now += self.step
        return self.now

    def process_time(self) -> float:
        return self.now / 2


@pytest.fixture
def clock(monkeypatch):
    """A tenth of a second passes between two samples."""
    found = Clock(0.1)
    monkeypatch.setattr(sampler, "perf_counter", found.perf_counter)
    monkeypatch.setattr(sampler, "process_time", found.process_time)
    return found


def watched(num_samples: int, **arguments):
    """A watch that took so many samples, without waiting for them."""
    found = devices.watch(**arguments)
    stop = threading.Event()
    waits = iter([False] * (num_samples - 1) + [True])
    stop.wait = lambda seconds: next(waits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watcher, "Event", lambda: stop)
        with found:
            found._thread.join()
    return found


def test_a_block_that_ends_at_once_has_one_sample(no_nvml, capsys):
    with devices.watch() as found:
        pass

    assert len(found.data) == 1
    assert list(found.data.columns)[:3] == ["seconds", "cpu_percent", "memory_gib"]
    assert capsys.readouterr().out == f"{found}\n"
    assert "dltlab-watch" not in {thread.name for thread in threading.enumerate()}


def test_two_gpus_tell_their_energy_and_images_per_joule(two_gpus, clock):
    found = watched(20, num_images=2000)

    data = found.data
    assert len(data) == 20
    assert data["seconds"].iloc[-1] == pytest.approx(2.0)
    assert set(data["gpu1_watts"]) == {250.0}
    assert set(data["gpu0_percent"]) == {90.0}
    assert found.joules == pytest.approx(2 * 250 * 2.0)
    assert found.images_per_joule == pytest.approx(2.0)
    assert "GPU 1 power 250 W, GPU 1 temperature 60 °C. 1,000 J, 2 images per joule." in str(found)
    assert two_gpus.opened == 0


def test_the_cpus_share_is_of_the_cores_it_may_use(no_nvml, clock, monkeypatch):
    cpu = devices.inventory(ask_tensorflow=False).cpu

    data = watched(3).data

    assert list(data["cpu_percent"]) == pytest.approx([50 / cpu.cores] * 3)


def test_a_gpu_that_vanishes_does_not_stop_the_code(nvml, gpu, clock):
    nvml([gpu(answers_left=6), gpu()])

    found = watched(10, num_images=1)

    assert found.data["gpu0_watts"].count() == 5
    assert math.isnan(found.data["gpu0_watts"].iloc[-1])
    assert found.data["gpu1_watts"].count() == 10
    assert found.joules == pytest.approx(250 * (1.0 + 0.5))
    assert str(found).endswith("GPU 0 vanished after 0.6 s.")
    assert "(no longer told)" in watch_view.panel(found._rows)


def test_what_the_code_raises_is_not_swallowed(two_gpus, capsys):
    with pytest.raises(ZeroDivisionError), devices.watch() as found:
        _ = 1 / 0

    assert len(found.data) == 1
    assert "GPU 0" in capsys.readouterr().out


def test_a_gpu_in_mig_mode_tells_only_some(nvml, gpu, clock):
    nvml([gpu(mig=True, percent=None)])

    data = watched(2).data

    assert "gpu0_percent" not in data.columns
    assert set(data["gpu0_watts"]) == {250.0}


def test_the_energy_of_a_cpu_is_read_where_it_may_be(no_nvml, clock, kernel_files):
    zone = "sys/class/powercap/intel-rapl:0"
    kernel_files(
        {
            f"{zone}/energy_uj": "900000\n",
            f"{zone}/max_energy_range_uj": "999999\n",
            "sys/class/powercap/intel-rapl:0:0/energy_uj": "1\n",
        }
    )
    with Sampler(()) as meters:
        kernel_files({f"{zone}/energy_uj": "400000\n"})  # it began anew at a million

        assert meters.row()["cpu_watts"] == pytest.approx(0.5 / 0.1)


def test_without_a_power_meter_that_is_said(no_nvml, clock):
    found = watched(2, num_images=5)

    assert (found.joules, found.images_per_joule) == (None, None)
    assert str(found).endswith("No device here tells its power.")


def test_a_gpu_that_does_not_exist_is_one_sentence(two_gpus):
    with pytest.raises(LabError, match=r"^There is no GPU 7 to watch; there is 0, 1\.$"):
        devices.watch(gpus=[7]).__enter__()


def test_only_the_gpus_asked_for_are_watched(two_gpus, clock, monkeypatch):
    assert "gpu0_watts" not in watched(1, gpus=[1]).data
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "gpu1_watts" not in watched(1).data


def test_nothing_watched_yet_is_said():
    assert str(devices.watch(title="Training")) == "Training: nothing watched yet."


def test_a_notebook_shows_a_panel_then_the_figure_in_its_place(two_gpus, clock, monkeypatch):
    shown = []
    monkeypatch.setattr(watcher, "in_notebook", lambda: True)
    monkeypatch.setattr(watcher, "_REDRAW_SECONDS", 0)
    monkeypatch.setattr(watcher, "_REDRAW_SHARE", math.inf)
    monkeypatch.setattr(
        watcher, "show_html", lambda html, text, **how: shown.append((html, text, how))
    )
    monkeypatch.setattr(
        watcher, "show", lambda figure, alt, **how: shown.append((figure, alt, how))
    )
    monkeypatch.setattr(watcher, "SECONDS", 0)

    found = watched(4)

    names = {how["display_id"] for *_, how in shown}
    assert len(names) == 1
    assert [how.get("update", False) for *_, how in shown] == [False, True, True, True, True]
    assert "GPU 1 power" in shown[1][0]
    assert "<svg" in shown[1][0]
    figure, alt, _ = shown[-1]
    assert alt == str(found)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["utilization", "memory", "power", "temperature"]
    assert all("(" in axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes)


def test_the_plot_has_its_words(two_gpus, clock, capsys):
    found = watched(3)
    capsys.readouterr()

    found.plot()

    assert capsys.readouterr().out == f"{found}\n"
