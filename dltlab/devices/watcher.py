"""Watch the devices while code runs: `watch`."""

import time
from collections.abc import Sequence
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dltlab.devices import libraries, nvml, watch_view
from dltlab.devices.nvml import Gpu
from dltlab.devices.sampler import Row, Sampler
from dltlab.display import in_notebook, show, show_html
from dltlab.errors import LabError

if TYPE_CHECKING:
    import pandas as pd

SECONDS = 0.1  # between two samples
_REDRAW_SECONDS, _REDRAW_SHARE = 0.5, 0.003  # of the time, at most, goes into drawing


class Watch:
    """What `watch` gives; see there. It may be entered several times, each time anew.

    Attributes:
        num_images: How many images were computed in the block; may be set during or after it.
    """

    def __init__(self, num_images: int | None, gpus: Sequence[int] | None, title: str) -> None:
        self.num_images = num_images
        self.title = title
        self._wanted = gpus
        self._rows: list[Row] = []
        self._lost: dict[int, float] = {}
        self._overhead = 0.0

    def __enter__(self) -> "Watch":
        self._rows = []
        self._sampler = Sampler(_chosen(self._wanted)).__enter__()
        self._lost = self._sampler.lost
        self._live = f"dltlab-watch-{uuid4()}" if in_notebook() else None
        if self._live:
            show_html("<p>Watching …</p>", watch_view.line([]), display_id=self._live)
        self._stop = Event()
        self._thread = Thread(target=self._watch, name="dltlab-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sampler.__exit__(*error)
        if self._live:
            show(self._draw(), str(self), display_id=self._live, update=True)
        else:
            print(self)  # noqa: T201

    @property
    def data(self) -> "pd.DataFrame":
        """The samples, a row each; `Sampler.row` tells the columns. NaN where nothing was told."""
        import pandas as pd

        return pd.DataFrame(self._rows, columns=["seconds", *watch_view.columns(self._rows)])

    @property
    def joules(self) -> float | None:
        """Energy taken by the devices that tell their power; None if none does.

        Each sample's power counts for the time since the sample before it. Those are whole
        devices: what other programs use of them is in it, and the rest of the machine is not.
        """
        spent, told, before = 0.0, False, 0.0
        for row in self._rows:
            watts = [value for name, value in row.items() if name.endswith("_watts")]
            spent += sum(watts) * (row["seconds"] - before)
            told, before = told or bool(watts), row["seconds"]
        return spent if told else None

    @property
    def images_per_joule(self) -> float | None:
        """None if the number of images or the energy is not known."""
        joules = self.joules
        return self.num_images / joules if self.num_images is not None and joules else None

    @property
    def overhead(self) -> float:
        """The share of one core that watching took."""
        return self._overhead

    def plot(self) -> None:
        """Show utilization, memory, power and temperature over time, as far as they are told."""
        show(self._draw(), str(self))

    def __str__(self) -> str:
        if not self._rows:
            return f"{self.title}: nothing watched yet."
        means = [self._mean(name) for name in watch_view.columns(self._rows)]
        parts = [f"{self.title}: {self._rows[-1]['seconds']:.1f} s", *means]
        sentences = [", ".join(parts), self._energy()]
        sentences += [f"GPU {gpu} vanished after {at:.1f} s" for gpu, at in self._lost.items()]
        return ". ".join(sentences) + "."

    __repr__ = __str__

    def _mean(self, name: str) -> str:
        values = [row[name] for row in self._rows if name in row]
        return watch_view.meter(name, sum(values) / len(values))

    def _energy(self) -> str:
        if self.joules is None:
            return "No device here tells its power"
        images = self.images_per_joule
        per_joule = f", {images:.3g} images per joule" if images is not None else ""
        return f"{self.joules:,.0f} J{per_joule}"

    def _draw(self) -> Any:
        return watch_view.draw(self._rows, f"{self.title}: {self._rows[-1]['seconds']:.1f} s")

    def _watch(self) -> None:
        """Sample until the block ends, and once more then; runs in a thread of its own."""
        due = redraw = time.perf_counter() + SECONDS
        while not self._stop.wait(max(0.0, due - time.perf_counter())):
            due += SECONDS
            self._rows.append(self._sampler.row())
            if self._live and time.perf_counter() >= redraw:
                redraw = self._redraw(self._live)
        self._rows.append(self._sampler.row())
        self._overhead = time.thread_time() / self._rows[-1]["seconds"]

    def _redraw(self, live: str) -> float:
        """Bring the panel of that name up to date; the time from which it may be drawn again."""
        start = time.thread_time()
        html, text = watch_view.panel(self._rows), watch_view.line(self._rows)
        show_html(html, text, display_id=live, update=True)
        took = time.thread_time() - start
        return time.perf_counter() + max(_REDRAW_SECONDS, took / _REDRAW_SHARE)


def watch(
    num_images: int | None = None, gpus: Sequence[int] | None = None, title: str = "Devices"
) -> Watch:
    """Watch the CPU and the GPUs while the code in a `with` block runs.

    ```
    with devices.watch(num_images=60_000) as watched:
        model.fit(images, labels)
    watched.data, watched.joules, watched.images_per_joule
    ```

    Ten times a second a thread notes utilization, memory, power and temperature. In a notebook a
    panel shows them live and a figure remains; elsewhere a line of text says what there was. A GPU
    that vanishes half way is told at the end; it does not stop the code.

    Watching takes less than 1% of one core; `benchmarks/watch_overhead.py` measures it.

    Args:
        num_images: Computed in the block, for `images_per_joule`.
        gpus: Indices as NVML counts them; by default those in `CUDA_VISIBLE_DEVICES`, else all.
        title: Opens the figure's title and the line of text.

    Raises:
        LabError: On entering: there is no such GPU, or `CUDA_VISIBLE_DEVICES` makes no sense.
    """
    return Watch(num_images, gpus, title)


def _chosen(wanted: Sequence[int] | None) -> tuple[Gpu, ...]:
    nvidia = nvml.query()
    if wanted is None:
        return libraries.visible(nvidia)
    there = {gpu.index: gpu for gpu in nvidia.gpus}
    for index in wanted:
        if index not in there:
            have = ", ".join(map(str, there)) or "none"
            raise LabError(f"There is no GPU {index} to watch; there is {have}.")
    return tuple(there[index] for index in wanted)
