"""Watch the devices while code runs: `watch`."""

import time
from collections.abc import Sequence
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from dltlab.devices import gpu_support, nvml, sampler, watch_view
from dltlab.devices.nvml import Gpu
from dltlab.devices.sampler import Row, Sampler
from dltlab.display import Result, in_notebook, plain, show, show_html
from dltlab.errors import NotFound

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SAMPLE_SECONDS = 0.1  # between two samples
REDRAW_SECONDS = 0.5  # at least, between two updates of the live panel
REDRAW_SHARE = 0.003  # of the time, at most, is spent on drawing


class Watch(Result):
    """The readings of a `with` block, see `watch`. A new block replaces those of the last one.

    Attributes:
        num_images: How many images were processed in the block; may be set during or after it.
        title: Of the figure.
        overhead: The share of one core that watching took.
    """

    _max_rows: ClassVar[int] = 10

    def __init__(self, num_images: int | None, gpus: Sequence[int] | None, title: str) -> None:
        self.num_images = num_images
        self.title = title
        self.overhead = 0.0
        self._indices = gpus
        self._rows: list[Row] = []
        self._lost: dict[int, float] = {}

    def __enter__(self) -> "Watch":
        self._rows = []
        self._sampler = Sampler(_select_gpus(self._indices)).__enter__()
        self._lost = self._sampler.lost
        self._display_id = f"dltlab-watch-{uuid4()}" if in_notebook() else None
        if self._display_id:
            show_html("<p>Watching …</p>", watch_view.line([]), display_id=self._display_id)
        self._stop = Event()
        self._thread = Thread(target=self._watch, name="dltlab-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sampler.__exit__(*error)
        figure = self.figure()
        if self._display_id and figure is not None:
            show(figure, self.alt, display_id=self._display_id, update=True)
        else:
            print(self.summary)  # noqa: T201

    @property
    def table(self) -> "pd.DataFrame":
        """The samples, a row each, with the columns of `Sampler.sample`; NaN where none came."""
        import pandas as pd

        return pd.DataFrame(self._rows, columns=["seconds", *watch_view.column_names(self._rows)])

    @property
    def joules(self) -> float | None:
        """Energy of the devices that report their power; None if none does.

        The power of a sample counts for the time since the sample before it. It is that of whole
        devices, with what other programs use of them, and without the rest of the machine.
        """
        joules, is_reported, last = 0.0, False, 0.0
        for row in self._rows:
            watts = [value for name, value in row.items() if name.endswith("_watts")]
            joules += sum(watts) * (row["seconds"] - last)
            is_reported, last = is_reported or bool(watts), row["seconds"]
        return joules if is_reported else None

    @property
    def images_per_joule(self) -> float | None:
        """None if the number of images or the energy is not known."""
        joules = self.joules
        return self.num_images / joules if self.num_images is not None and joules else None

    @property
    def summary(self) -> str:
        """The time, the mean of each quantity, and the energy."""
        if not self._rows:
            return f"{self.title}: no samples yet."
        means = [self._mean(name) for name in watch_view.column_names(self._rows)]
        parts = [f"{self.title}: {self._rows[-1]['seconds']:.1f} s", *means]
        sentences = [", ".join(parts), self._energy_text()]
        sentences += [
            f"GPU {index} was lost after {seconds:.1f} s" for index, seconds in self._lost.items()
        ]
        return ". ".join(sentences) + "."

    def figure(self) -> "Figure | None":
        """Draw utilization, memory, power and temperature over time; None without samples."""
        if not self._rows:
            return None
        return watch_view.draw(self._rows, f"{self.title}: {self._rows[-1]['seconds']:.1f} s")

    def as_dict(self) -> dict[str, Any]:
        """Return the title, the energy, the overhead and the samples, ready for JSON."""
        return {
            "title": self.title,
            "num_images": self.num_images,
            "joules": self.joules,
            "images_per_joule": self.images_per_joule,
            "overhead": self.overhead,
            "samples": plain(self._rows),
        }

    def _mean(self, name: str) -> str:
        values = [row[name] for row in self._rows if name in row]
        return watch_view.reading(name, sum(values) / len(values))

    def _energy_text(self) -> str:
        if self.joules is None:
            reason = sampler.no_power_reason()
            return "No device here reports its power" + (f": {reason}" if reason else "")
        images = self.images_per_joule
        per_joule = f", {images:.3g} images per joule" if images is not None else ""
        return f"{self.joules:,.0f} J{per_joule}"

    def _watch(self) -> None:
        """Sample until the block ends, and once more then; runs in a thread of its own."""
        next_sample = next_redraw = time.perf_counter() + SAMPLE_SECONDS
        while not self._stop.wait(max(0.0, next_sample - time.perf_counter())):
            next_sample += SAMPLE_SECONDS
            self._rows.append(self._sampler.sample())
            if self._display_id and time.perf_counter() >= next_redraw:
                next_redraw = self._redraw(self._display_id)
        self._rows.append(self._sampler.sample())
        self.overhead = time.thread_time() / self._rows[-1]["seconds"]

    def _redraw(self, display_id: str) -> float:
        """Update the live panel; return the time from which it may be updated again."""
        start = time.thread_time()
        html, text = watch_view.panel(self._rows), watch_view.line(self._rows)
        show_html(html, text, display_id=display_id, update=True)
        seconds = time.thread_time() - start
        return time.perf_counter() + max(REDRAW_SECONDS, seconds / REDRAW_SHARE)


def watch(
    num_images: int | None = None, gpus: Sequence[int] | None = None, title: str = "Devices"
) -> Watch:
    """Watch the CPU and the GPUs while the code in a `with` block runs.

    ```
    with devices.watch(num_images=60_000) as watched:
        model.fit(images, labels)
    watched.table, watched.joules, watched.images_per_joule
    ```

    Ten times a second a thread reads utilization, memory, power and temperature. In a notebook a
    live panel shows them, and a figure replaces it at the end; elsewhere a line of text is printed.
    A GPU that is lost on the way is reported at the end; it does not stop the code.

    Watching takes less than 1% of one core; `benchmarks/watch_overhead.py` measures it.

    Args:
        num_images: Processed in the block, for `images_per_joule`.
        gpus: Indices as NVML counts them; by default those in `CUDA_VISIBLE_DEVICES`, else all.
        title: Of the figure and of the line of text.

    Raises:
        NotFound: On entering: there is no such GPU.
        Invalid: On entering: the value of `CUDA_VISIBLE_DEVICES` is not allowed.
    """
    return Watch(num_images, gpus, title)


def _select_gpus(indices: Sequence[int] | None) -> tuple[Gpu, ...]:
    nvidia = nvml.nvidia_info()
    if indices is None:
        return gpu_support.visible_gpus(nvidia)
    gpus = {gpu.index: gpu for gpu in nvidia.gpus}
    for index in indices:
        if index not in gpus:
            existing = ", ".join(map(str, gpus)) or "none"
            raise NotFound(f"There is no GPU {index} to watch; there is {existing}.")
    return tuple(gpus[index] for index in indices)
