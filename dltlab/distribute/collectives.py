"""Run collectives over ranks that are arrays in one process, message by message, and count."""

import base64
import html
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dltlab.display import Result, in_notebook, show_html
from dltlab.distribute.piece_drawing import draw_gif, draw_strip
from dltlab.distribute.ranks import RankFunction, run_ranks
from dltlab.distribute.schedules import ALGORITHMS, Message, Step
from dltlab.errors import Invalid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_OPERATIONS: Mapping[str, np.ufunc] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "mean": np.add,  # divided by the number of ranks at the end
}
_KINDS = "iufc"  # of dtypes: integers, unsigned integers, floating-point and complex numbers
_MAX_DRAWN_RANKS = 8

Memory = dict[int, np.ndarray]  # what a rank has: its pieces by their number


@dataclass(frozen=True, repr=False, eq=False)
class CollectiveRun(Result):
    """What a collective returns: the arrays of all ranks, and all messages.

    Attributes:
        collective: What was run, such as "all_reduce".
        algorithm: How, such as "ring".
        outputs: The array that each rank has at the end; None for a rank that gets no result.
        steps: The messages of each step. Those of one step are sent at the same time.
        piece_bytes: The size of each piece of the array.
        root: The rank that a broadcast starts from or a reduce ends at, else None.
    """

    collective: str
    algorithm: str
    outputs: tuple[np.ndarray | None, ...]
    steps: tuple[Step, ...]
    piece_bytes: tuple[int, ...]
    root: int | None

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "bytes": "{:,}".format,
        "bytes on the busiest link": "{:,}".format,
    }

    @property
    def num_ranks(self) -> int:
        """The number of ranks."""
        return len(self.outputs)

    @property
    def num_bytes(self) -> int:
        """The size of the whole array."""
        return sum(self.piece_bytes)

    @property
    def bytes_sent(self) -> np.ndarray:
        """The bytes that each rank has sent, `(num_ranks,)`."""
        return self._count_bytes("source")

    @property
    def bytes_received(self) -> np.ndarray:
        """The bytes that each rank has received, `(num_ranks,)`."""
        return self._count_bytes("target")

    def _count_bytes(self, end: str) -> np.ndarray:
        counts = np.zeros(self.num_ranks, np.int64)
        for step in self.steps:
            for message in step:
                counts[getattr(message, end)] += self._size(message)
        return counts

    def _size(self, message: Message) -> int:
        return sum(self.piece_bytes[piece] for piece in message.pieces)

    def seconds(self, alpha: float, beta: float) -> float:
        """Return the time that the messages take in the alpha-beta model.

        A step takes alpha plus beta times the bytes on its busiest link. Links are full duplex: a
        rank sends and receives at the same time. Not modeled are the time to combine pieces, and
        messages that share a link of the network.

        Args:
            alpha: The latency of a message in seconds.
            beta: The seconds per byte, 1 / bandwidth.

        Raises:
            Invalid: A number is negative.
        """
        if not alpha >= 0 or not beta >= 0:
            raise Invalid(f"alpha is {alpha} and beta {beta}; neither may be negative.")
        return sum(alpha + beta * max(map(self._size, step)) for step in self.steps)

    @property
    def contents(self) -> np.ndarray:
        """Whose data each piece of each rank contains, at the start and after each step.

        bool `(num_steps + 1, num_ranks, num_pieces, num_ranks)`; the last axis is the rank that the
        data come from.
        """
        num_pieces = len(self.piece_bytes)
        state = np.zeros((self.num_ranks, num_pieces, self.num_ranks), bool)
        for rank in range(self.num_ranks):
            if self.collective == "all_gather":
                state[rank, rank, rank] = True
            elif self.collective != "broadcast" or rank == self.root:
                state[rank, :, rank] = True
        states = [state]
        for step in self.steps:
            before, state = state, state.copy()
            for message in step:
                pieces = list(message.pieces)
                arrived = before[message.source, pieces]
                own = before[message.target, pieces] & message.reduces
                state[message.target, pieces] = own | arrived
            states.append(state)
        return np.array(states)

    @property
    def table(self) -> "pd.DataFrame":
        """One row per step."""
        import pandas as pd

        sizes = [[self._size(message) for message in step] for step in self.steps]
        return pd.DataFrame(
            {
                "step": range(1, len(sizes) + 1),
                "messages": [len(step) for step in sizes],
                "bytes": [sum(step) for step in sizes],
                "bytes on the busiest link": [max(step) for step in sizes],
            }
        )

    @property
    def summary(self) -> str:
        """The number of steps and bytes in a sentence."""
        most = int(self.bytes_sent.max())
        share = f", {most / self.num_bytes:.3g} times the array" if self.num_bytes else ""
        return (
            f"{self.collective} ({self.algorithm}) over {self.num_ranks} ranks, "
            f"{self.num_bytes:,} bytes: {len(self.steps)} steps, in which a rank sends at most "
            f"{most:,} bytes{share}."
        )

    @property
    def alt(self) -> str:
        """The description of the figure."""
        return (
            f"{self.summary} One panel for each step, with a row for each rank and a column for "
            "each piece; the colors in a cell show whose data it contains."
        )

    def figure(self) -> "Figure | None":
        """Draw the pieces of all ranks after each step; None for more than 8 ranks."""
        if self.num_ranks > _MAX_DRAWN_RANKS:
            return None
        return draw_strip(self.contents, self.steps, f"{self.collective} ({self.algorithm})")

    def animate(self) -> None:
        """Show the pieces moving from rank to rank; in a terminal, print the summary.

        Raises:
            Invalid: There are more than 8 ranks.
        """
        if self.num_ranks > _MAX_DRAWN_RANKS:
            raise Invalid(
                f"There are {self.num_ranks} ranks; an animation shows {_MAX_DRAWN_RANKS} at most."
            )
        if not in_notebook():
            print(self.summary)  # noqa: T201
            return
        source = base64.b64encode(draw_gif(self.contents, self.steps)).decode()
        image = f'<img alt="{html.escape(self.alt)}" src="data:image/gif;base64,{source}">'
        show_html(image, self.alt, display_id=uuid.uuid4().hex)


def all_reduce(
    arrays: "Sequence[ArrayLike]", op: str = "sum", *, algorithm: str | RankFunction = "ring"
) -> CollectiveRun:
    """Combine the arrays of all ranks; every rank gets the result.

    The dtype stays, as with MPI and NCCL, so that sums of small integers overflow; only the mean of
    integers is float64.

    A function as `algorithm` runs on every rank at the same time. It takes the array of its rank
    and an object with `rank`, `size`, `send(array, target)` and `receive(source)`, and returns the
    result. A second run, with other numbers, traces which parts of the array it sends.

    Args:
        arrays: One array for each rank, all of the same shape and dtype.
        op: "sum", "prod", "max", "min" or "mean"; left out with a function, which decides itself.
        algorithm: "ring", "tree", "recursive_doubling" or "halving_doubling", or a function. The
            last two names are for 2^k ranks; of another number, the surplus ranks give their array
            to a neighbor before and receive the result after, as in MPICH.

    Raises:
        Invalid: There is no array, the arrays do not fit together, their dtype is not numeric, the
            operation or the algorithm is not known, or the messages of a function do not fit
            together.
    """
    ranks = _equal_arrays(arrays, op)
    if callable(algorithm):
        return _run_function("all_reduce", algorithm, ranks, op)
    steps, num_pieces = _schedule("all_reduce", algorithm, len(ranks))
    memories = [_split(array.ravel(), num_pieces) for array in ranks]
    _run(memories, steps, op)
    outputs = [_whole(memory, ranks[0].shape, op, len(ranks)) for memory in memories]
    return _result("all_reduce", algorithm, outputs, steps, memories[0])


def reduce_scatter(
    arrays: "Sequence[ArrayLike]", op: str = "sum", *, algorithm: str | RankFunction = "ring"
) -> CollectiveRun:
    """Combine the arrays of all ranks; rank i gets part i of the result.

    The parts are those of `numpy.array_split` along the first axis.

    Args:
        arrays: One array for each rank, all of the same shape and dtype.
        op: "sum", "prod", "max", "min" or "mean".
        algorithm: "ring" or "bruck", both for any number of ranks, or a function, as in
            `all_reduce`.

    Raises:
        Invalid: As in `all_reduce`.
    """
    ranks = [np.atleast_1d(array) for array in _equal_arrays(arrays, op)]
    if callable(algorithm):
        return _run_function("reduce_scatter", algorithm, ranks, op)
    steps, num_pieces = _schedule("reduce_scatter", algorithm, len(ranks))
    memories = [_split(array, num_pieces) for array in ranks]
    _run(memories, steps, op)
    outputs = [_finished(memory[rank], op, len(ranks)) for rank, memory in enumerate(memories)]
    return _result("reduce_scatter", algorithm, outputs, steps, memories[0])


def all_gather(arrays: "Sequence[ArrayLike]", *, algorithm: str = "ring") -> CollectiveRun:
    """Join the arrays of all ranks along the first axis; every rank gets the result.

    Args:
        arrays: One array for each rank, of the same dtype; their first dimensions may differ.
        algorithm: "ring" or "bruck", both for any number of ranks.

    Raises:
        Invalid: As in `all_reduce`.
    """
    ranks = [np.atleast_1d(array) for array in _arrays(arrays)]
    for rank, array in enumerate(ranks):
        if array.shape[1:] != ranks[0].shape[1:]:
            raise Invalid(
                f"The array of rank {rank} has the shape {array.shape}, that of rank 0 "
                f"{ranks[0].shape}; only their first dimensions may differ."
            )
    steps, _ = _schedule("all_gather", algorithm, len(ranks))
    memories = [{rank: array} for rank, array in enumerate(ranks)]
    _run(memories, steps)
    outputs = [np.concatenate([memory[piece] for piece in sorted(memory)]) for memory in memories]
    return _result("all_gather", algorithm, outputs, steps, memories[0])


def reduce(
    arrays: "Sequence[ArrayLike]", op: str = "sum", *, root: int = 0, algorithm: str = "tree"
) -> CollectiveRun:
    """Combine the arrays of all ranks; the root gets the result, the others None.

    Args:
        arrays: One array for each rank, all of the same shape and dtype.
        op: "sum", "prod", "max", "min" or "mean".
        root: The rank that gets the result.
        algorithm: "tree", "reduce_scatter_gather" or "ring", all for any number of ranks.

    Raises:
        Invalid: As in `all_reduce`, or there is no rank `root`.
    """
    ranks = _equal_arrays(arrays, op)
    steps, num_pieces = _schedule("reduce", algorithm, len(ranks), root)
    memories = [_split(array.ravel(), num_pieces) for array in ranks]
    _run(memories, steps, op)
    outputs: list[np.ndarray | None] = [None] * len(ranks)
    outputs[root] = _whole(memories[root], ranks[0].shape, op, len(ranks))
    return _result("reduce", algorithm, outputs, steps, memories[0], root)


def broadcast(
    array: "ArrayLike", num_ranks: int, *, root: int = 0, algorithm: str = "tree"
) -> CollectiveRun:
    """Send an array from the root to all ranks.

    Args:
        array: The array of the root.
        num_ranks: The number of ranks.
        root: The rank that has the array.
        algorithm: "tree", "scatter_all_gather" or "ring", all for any number of ranks.

    Raises:
        Invalid: The dtype is not numeric, there is no rank `root`, or the algorithm is not known.
    """
    (whole,) = _arrays([array])
    steps, num_pieces = _schedule("broadcast", algorithm, num_ranks, root)
    memories: list[Memory] = [{} for _ in range(num_ranks)]
    memories[root] = _split(whole.ravel(), num_pieces)
    _run(memories, steps)
    outputs = [_whole(memory, whole.shape) for memory in memories]
    return _result("broadcast", algorithm, outputs, steps, memories[0], root)


def _run_function(
    collective: str, function: RankFunction, ranks: list[np.ndarray], op: str
) -> CollectiveRun:
    if op != "sum":
        raise Invalid(f"A function as the algorithm combines the arrays itself; leave {op!r} out.")
    outputs, steps, lengths = run_ranks(function, ranks)
    try:
        arrays = tuple(None if output is None else np.asarray(output) for output in outputs)
    except ValueError as error:
        raise Invalid(f"A rank returns something that is not an array: {error}.") from error
    piece_bytes = tuple(length * ranks[0].itemsize for length in lengths)
    name = getattr(function, "__name__", "function")
    return CollectiveRun(collective, name, arrays, steps, piece_bytes, root=None)


def _arrays(arrays: "Sequence[ArrayLike]") -> list[np.ndarray]:
    """Return one array for each rank, all of one numeric dtype."""
    try:
        ranks = [np.asarray(array) for array in arrays]
    except (TypeError, ValueError) as error:
        raise Invalid(f"The ranks need a list with one array for each: {error}.") from error
    if not ranks:
        raise Invalid("There is no array; a collective needs at least one rank.")
    for rank, array in enumerate(ranks):
        if array.dtype.kind not in _KINDS:
            raise Invalid(f"The array of rank {rank} is of {array.dtype}, which is not numeric.")
        if array.dtype != ranks[0].dtype:
            raise Invalid(
                f"The array of rank {rank} is of {array.dtype}, that of rank 0 of "
                f"{ranks[0].dtype}; convert them to one dtype."
            )
    return ranks


def _equal_arrays(arrays: "Sequence[ArrayLike]", op: str) -> list[np.ndarray]:
    """Return arrays that can be combined."""
    if op not in _OPERATIONS:
        raise Invalid(f"There is no operation {op!r}; it is one of {', '.join(_OPERATIONS)}.")
    ranks = _arrays(arrays)
    for rank, array in enumerate(ranks):
        if array.shape != ranks[0].shape:
            raise Invalid(
                f"The array of rank {rank} has the shape {array.shape}, that of rank 0 "
                f"{ranks[0].shape}; they must be equal."
            )
    if op == "mean" and ranks[0].dtype.kind in "iu":
        return [array.astype(np.float64) for array in ranks]
    return ranks


def _schedule(
    collective: str, algorithm: str, num_ranks: int, root: int | None = None
) -> tuple[tuple[Step, ...], int]:
    """Return the steps of an algorithm, and the number of pieces of the array."""
    algorithms = ALGORITHMS[collective]
    if algorithm not in algorithms:
        raise Invalid(
            f"There is no algorithm {algorithm!r} of {collective}; it is one of "
            f"{', '.join(algorithms)}."
        )
    if not isinstance(num_ranks, int | np.integer) or num_ranks < 1:
        raise Invalid(f"num_ranks is {num_ranks!r}; it must be an integer of at least 1.")
    if root is not None and not (isinstance(root, int | np.integer) and 0 <= root < num_ranks):
        raise Invalid(f"The root is {root!r}; it must be a rank from 0 to {num_ranks - 1}.")
    make_steps, count_pieces = algorithms[algorithm]
    count = int(num_ranks)  # of NumPy's integers, which lack methods
    steps = make_steps(count) if root is None else make_steps(count, int(root))
    return tuple(steps), count_pieces(count)


def _run(memories: list[Memory], steps: tuple[Step, ...], op: str = "sum") -> None:
    """Send all messages. What ranks have before a step is what they send in it."""
    for step in steps:
        sent = [[memories[message.source][piece] for piece in message.pieces] for message in step]
        for message, pieces in zip(step, sent, strict=True):
            memory = memories[message.target]
            for number, piece in zip(message.pieces, pieces, strict=True):
                own = memory[number] if message.reduces else None
                memory[number] = piece if own is None else _OPERATIONS[op](own, piece)


def _split(array: np.ndarray, num_pieces: int) -> Memory:
    return dict(enumerate(np.array_split(array, num_pieces)))


def _whole(
    memory: Memory, shape: tuple[int, ...], op: str = "sum", num_ranks: int = 1
) -> np.ndarray:
    flat = np.concatenate([memory[piece] for piece in sorted(memory)])
    return _finished(flat.reshape(shape), op, num_ranks)


def _finished(array: np.ndarray, op: str, num_ranks: int) -> np.ndarray:
    """Return what a rank gets: a copy, divided by the number of ranks for a mean."""
    return array / array.dtype.type(num_ranks) if op == "mean" else array.copy()


def _result(
    collective: str,
    algorithm: str,
    outputs: Sequence[np.ndarray | None],
    steps: tuple[Step, ...],
    memory: Memory,
    root: int | None = None,
) -> CollectiveRun:
    piece_bytes = tuple(memory[piece].nbytes for piece in sorted(memory))
    return CollectiveRun(collective, algorithm, tuple(outputs), steps, piece_bytes, root)
