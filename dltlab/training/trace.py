"""Read what TensorFlow's profiler recorded of a training: `read_trace`."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from dltlab.display import NEUTRAL, PALETTE, Result
from dltlab.errors import Damaged, NotFound

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STEP, INPUT = "step", "input"
_MAX_OPERATIONS, _MAX_THREADS = 12, 8  # in the table, and in the figure
_COLORS = {STEP: PALETTE[0], INPUT: PALETTE[1]}
_ITERATOR = "Iterator::"  # of tf.data; its stages follow, from the last to the first
_INPUT_THREADS = ("tf_data",)
_INPUT_OPERATIONS = ("PyFunc", "EagerPyFunc", "IteratorGetNext")
_PICOSECONDS = 1e-12

Span = tuple[float, float]  # seconds since the first operation: start and end


class Operation(NamedTuple):
    """What a kind of operation took.

    Attributes:
        name: Its type, such as "Conv2D", or a stage of a tf.data pipeline, such as "ParallelMap".
        part: "step" or "input".
        calls: How often it ran.
        seconds: Of all calls together, without what other operations took within it.
    """

    name: str
    part: str
    calls: int
    seconds: float


@dataclass(frozen=True, repr=False)
class Trace(Result):
    """What `read_trace` returns.

    Attributes:
        seconds: From the first operation of a step to the end of the last one.
        idle: The fraction of this time in which no operation of a step ran, in [0, 1].
        operations: Those that took most, first.
        threads: For each thread of the host, or stream of a GPU, when it worked on which part.
    """

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "calls": "{:,}".format,
        "ms": "{:,.1f}".format,
        "of the work": "{:.3f}".format,
    }

    seconds: float
    idle: float
    operations: list[Operation]
    threads: dict[str, dict[str, list[Span]]]

    @property
    def summary(self) -> str:
        """How long the trace is, and how long no operation of a step ran."""
        return (
            f"In {1e3 * self.seconds:,.0f} ms, no operation of a step ran for {self.idle:.1%} of "
            "the time."
        )

    @property
    def table(self) -> "pd.DataFrame":
        """The operations that took most; `of the work` is the share of each among all of them."""
        import pandas as pd

        total = sum(operation.seconds for operation in self.operations) or 1.0
        rows = [
            (name, part, calls, 1e3 * seconds, seconds / total)
            for name, part, calls, seconds in self.operations[:_MAX_OPERATIONS]
        ]
        return pd.DataFrame(rows, columns=["operation", "part", "calls", "ms", "of the work"])

    @property
    def alt(self) -> str:
        """The description of the figure for people who do not see it."""
        return f"{self.summary} Bars show when each of {len(self._busiest())} threads worked."

    def figure(self) -> "Figure":
        """Draw when each thread worked on the step, and when on the input."""
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        names = self._busiest()
        figure = Figure(figsize=(9, 1.5 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        for place, name in enumerate(names):
            for part, spans in self.threads[name].items():
                bars = [(1e3 * start, 1e3 * (end - start)) for start, end in spans]
                axes.broken_barh(bars, (place - 0.4, 0.8), color=_COLORS[part])
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1e3 * self.seconds)
        axes.set_xlabel("time (ms)")
        axes.set_title(f"No operation of a step runs for {self.idle:.1%} of the time")
        axes.grid(axis="x", color=NEUTRAL, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        handles = [Patch(color=color, label=part) for part, color in _COLORS.items()]
        figure.legend(handles=handles, loc="outside right upper", frameon=False)
        return figure

    def _busiest(self) -> list[str]:
        """Return the threads that worked most, those of the step first."""

        def busy(name: str) -> float:
            return sum(map(_total, self.threads[name].values()))

        chosen = sorted(self.threads, key=busy, reverse=True)[:_MAX_THREADS]
        return sorted(chosen, key=lambda name: STEP not in self.threads[name])


def read_trace(folder: str | Path) -> Trace:
    """Read the newest trace in a folder: which operations took the time, and when none ran.

    `keras.callbacks.TensorBoard(folder, profile_batch=(10, 15))` and
    `tf.profiler.experimental.Profile(folder)` record traces.

    On a processor, the operations of the input share the cores with those of the step, so both
    take longer than alone. If a GPU computes, its kernels are the operations of the step.

    Args:
        folder: The folder that was given to the callback or the profiler, or one above it.

    Raises:
        NotFound: There is no trace in the folder.
        Damaged: The newest trace cannot be read, or it contains no operation of a step.
    """
    files = sorted(Path(folder).rglob("*.xplane.pb"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise NotFound(
            f"There is no trace in {folder}: pass keras.callbacks.TensorBoard({str(folder)!r}, "
            "profile_batch=(10, 15)) to `fit`."
        )
    events = list(_events(_parsed(files[-1])))
    if any(event.is_device for event in events):  # on the host, such a step is only launched
        events = [event for event in events if event.is_device or event.part == INPUT]
    steps = [event for event in events if event.part == STEP]
    if not steps:
        raise Damaged(f"{files[-1]} contains no operation of a step: trace more batches.")
    start = min(event.start for event in steps)
    end = max(event.start + event.seconds for event in steps)
    spans = _merged([(event.start, event.start + event.seconds) for event in steps])
    within = [
        event for event in events if event.start < end and event.start + event.seconds > start
    ]
    return Trace(
        seconds=end - start,
        idle=1 - _total(spans) / (end - start),
        operations=_operations(within),
        threads=_threads(within, start, end),
    )


class _Event(NamedTuple):
    thread: str
    name: str
    part: str
    start: float
    seconds: float
    own_seconds: float  # without the events within it
    is_device: bool


def _parsed(file: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    try:
        space.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise Damaged(f"{file} is no trace, or it is damaged: record it again.") from error
    return space


def _events(space: Any) -> Iterator[_Event]:
    """Yield the operations in a trace, of the host's threads and of the GPUs' streams."""
    num_threads: Counter[str] = Counter()
    for plane in space.planes:
        is_device = plane.name.startswith("/device:GPU")
        if not is_device and not plane.name.startswith("/host:CPU"):
            continue
        names = {key: value.name for key, value in plane.event_metadata.items()}
        for line in plane.lines:
            if is_device and not line.name.startswith("Stream"):
                continue  # the same kernels again, summed up by module, by operation and so on
            kind = plane.name.removeprefix("/device:") if is_device else line.name.partition("/")[0]
            num_threads[kind] += 1
            thread, origin = f"{kind} {num_threads[kind]}", line.timestamp_ns * 1e-9
            for event, own in _with_own_time(line.events):
                operation = _operation(names[event.metadata_id], kind, is_device)
                if operation is not None:
                    start = origin + event.offset_ps * _PICOSECONDS
                    seconds = event.duration_ps * _PICOSECONDS
                    own_seconds = own * _PICOSECONDS
                    yield _Event(thread, *operation, start, seconds, own_seconds, is_device)


def _operation(name: str, thread: str, is_device: bool) -> tuple[str, str] | None:
    """Return the name of an operation without its place in the network, and the part it is of.

    None for what is no operation: TensorFlow's own work, such as scheduling.
    """
    if is_device:
        return name, STEP
    if name.startswith(_ITERATOR):
        return name.rpartition("::")[2].partition("[")[0], INPUT
    path, colon, kind = name.rpartition(":")
    if not colon or path.endswith(":") or not kind.isidentifier():
        return None
    is_input = thread.startswith(_INPUT_THREADS) or kind in _INPUT_OPERATIONS
    return kind, INPUT if is_input else STEP


def _with_own_time(events: Any) -> Iterator[tuple[Any, int]]:
    """Yield the events of one thread with the picoseconds that are not those of events within."""
    ordered = sorted(events, key=lambda event: (event.offset_ps, -event.duration_ps))
    own = [event.duration_ps for event in ordered]
    stack: list[tuple[int, int]] = []  # the end of each enclosing event, and its place
    for place, event in enumerate(ordered):
        while stack and stack[-1][0] <= event.offset_ps:
            stack.pop()
        if stack:
            own[stack[-1][1]] -= event.duration_ps
        stack.append((event.offset_ps + event.duration_ps, place))
    return ((event, max(0, duration)) for event, duration in zip(ordered, own, strict=True))


def _operations(events: list[_Event]) -> list[Operation]:
    calls: dict[tuple[str, str], int] = defaultdict(int)
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        calls[event.name, event.part] += 1
        seconds[event.name, event.part] += event.own_seconds
    operations = [Operation(*key, calls[key], seconds[key]) for key in calls]
    return sorted(operations, key=lambda operation: operation.seconds, reverse=True)


def _threads(events: list[_Event], start: float, end: float) -> dict[str, dict[str, list[Span]]]:
    """Return when each thread worked on which part, in seconds since `start`."""
    spans: dict[str, dict[str, list[Span]]] = {}
    for event in events:
        if event.own_seconds <= 0:
            continue
        first = max(event.start, start) - start
        last = min(event.start + event.seconds, end) - start
        parts = spans.setdefault(event.thread, {})
        parts.setdefault(event.part, []).append((first, last))
    return {
        name: {part: _merged(own) for part, own in sorted(parts.items())}
        for name, parts in spans.items()
    }


def _merged(spans: list[Span]) -> list[Span]:
    """Return spans that do not overlap and cover the same time, in their order."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _total(spans: list[Span]) -> float:
    return sum(end - start for start, end in spans)
