"""Run a function of one rank on several ranks, each in a thread, and record what they send."""

import io
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from dltlab.distribute.schedules import Message, Step
from dltlab.errors import Invalid

_SCALE = 2.0**-32  # of the positions that are hidden in the values of a traced run


class Communicator:
    """How the function of one rank reaches the others.

    Attributes:
        rank: The number of this rank, from 0.
        size: The number of ranks.
    """

    def __init__(self, network: "_Network", rank: int) -> None:
        self.rank = rank
        self.size = network.num_ranks
        self._network = network

    def send(self, array: Any, target: int) -> None:
        """Send a copy of an array to another rank, without waiting for it to be received.

        Raises:
            Invalid: There is no such other rank.
        """
        self._require_other(target, "send to")
        self._network.send(self.rank, target, np.array(array))

    def receive(self, source: int) -> np.ndarray:
        """Wait for the next array from another rank.

        Raises:
            Invalid: There is no such other rank.
        """
        self._require_other(source, "receive from")
        return self._network.receive(source, self.rank)

    def _require_other(self, rank: int, action: str) -> None:
        if not isinstance(rank, int | np.integer) or not 0 <= rank < self.size:
            ranks = f"a rank from 0 to {self.size - 1}"
            raise Invalid(
                f"Rank {self.rank} wants to {action} rank {rank!r}, which is not {ranks}."
            )
        if rank == self.rank:
            raise Invalid(f"Rank {rank} wants to {action} itself.")


RankFunction = Callable[[np.ndarray, Communicator], Any]


def run_ranks(
    function: RankFunction, arrays: Sequence[np.ndarray]
) -> tuple[list[Any], tuple[Step, ...], tuple[int, ...]]:
    """Run a function on all ranks, once with their arrays and once to trace what it sends.

    Args:
        function: Takes the array of a rank and its `Communicator`, returns what the rank has at the
            end.
        arrays: One array for each rank, all of the same shape.

    Returns:
        What each rank returned, the messages of each step, and the number of elements of each
        piece. A piece is a part of the array that is never sent in parts.

    Raises:
        Invalid: Ranks wait for messages that are never sent, an array is never received, or one is
            sent that is not made of parts of the arrays.
    """
    outputs, _ = _run(function, arrays)
    shape, length = arrays[0].shape, arrays[0].size
    traced = (1 + _SCALE * np.arange(1, length + 1)).reshape(shape)
    with redirect_stdout(io.StringIO()):  # the function has printed what it prints
        _, transfers = _run(function, [traced] * len(arrays))
    sent = [_is_sent(transfer, length, len(arrays)) for transfer in transfers]
    piece_of = _number_pieces(sent, length)
    messages = [
        Message(transfer.source, transfer.target, _distinct(piece_of[is_sent]), reduces=True)
        for transfer, is_sent in zip(transfers, sent, strict=True)
    ]
    steps: dict[int, list[Message]] = {}
    for transfer, message in zip(transfers, messages, strict=True):
        steps.setdefault(transfer.step, []).append(message)
    by_source = (
        sorted(steps[number], key=lambda message: message.source) for number in sorted(steps)
    )
    return outputs, tuple(map(tuple, by_source)), tuple(np.bincount(piece_of).tolist())


@dataclass
class _Transfer:
    """An array on its way; its step becomes that in which it is received."""

    source: int
    target: int
    array: np.ndarray
    step: int


class _Stopped(BaseException):
    """Ends the function of a rank when another one has failed."""


class _Network:
    """The messages between the ranks. One rank runs at a time, until it has to wait.

    So what happens is always the same. Each rank has a clock that counts steps; in a step it sends
    at most one message and receives at most one.
    """

    def __init__(self, num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self.transfers: list[_Transfer] = []  # that were received
        self.failure: BaseException | None = None
        self._queues: dict[tuple[int, int], deque[_Transfer]] = defaultdict(deque)
        self._waiting: dict[int, int] = {}  # for each rank that waits, the one it waits for
        self._unfinished = set(range(num_ranks))
        self._running = 0
        self._clocks = [0] * num_ranks
        self._next_send = [0] * num_ranks
        self._next_receive = [0] * num_ranks
        self._changed = threading.Condition()

    def send(self, source: int, target: int, array: np.ndarray) -> None:
        step = max(self._clocks[source], self._next_send[source])
        self._next_send[source] = step + 1
        self._queues[source, target].append(_Transfer(source, target, array, step))

    def receive(self, source: int, target: int) -> np.ndarray:
        queue = self._queues[source, target]
        if not queue:
            self._waiting[target] = source
            self._run_next(target)
            self.wait_for_turn(target)
            del self._waiting[target]
        transfer = queue.popleft()
        transfer.step = max(transfer.step, self._next_receive[target])
        self._next_receive[target] = transfer.step + 1
        self._clocks[target] = max(self._clocks[target], transfer.step + 1)
        self.transfers.append(transfer)
        return transfer.array

    def wait_for_turn(self, rank: int) -> None:
        """Wait until it is the turn of a rank."""
        with self._changed:
            self._changed.wait_for(lambda: self.failure is not None or self._running == rank)
        if self.failure is not None:
            raise _Stopped

    def finish(self, rank: int) -> None:
        """Note that the function of a rank has returned."""
        self._unfinished.remove(rank)
        self._run_next(rank)

    def fail(self, error: BaseException) -> None:
        """End all ranks; the first error is kept."""
        with self._changed:
            self.failure = self.failure or error
            self._changed.notify_all()

    def unreceived(self) -> Iterator[_Transfer]:
        """Yield what was sent and never received."""
        for queue in self._queues.values():
            yield from queue

    def _run_next(self, rank: int) -> None:
        """Let the next rank run that need not wait."""
        for offset in range(1, self.num_ranks + 1):
            other = (rank + offset) % self.num_ranks
            is_waiting = other in self._waiting and not self._queues[self._waiting[other], other]
            if other in self._unfinished and not is_waiting:
                with self._changed:
                    self._running = other
                    self._changed.notify_all()
                return
        if self._unfinished:
            pairs = sorted(self._waiting.items())
            waits = ", ".join(f"rank {target} for rank {source}" for target, source in pairs)
            self.fail(Invalid(f"Ranks wait for messages that are never sent: {waits}."))


def _run(function: RankFunction, arrays: Sequence[np.ndarray]) -> tuple[list[Any], list[_Transfer]]:
    """Run a function on all ranks; return what they returned, and what was sent."""
    network = _Network(len(arrays))
    outputs: list[Any] = [None] * len(arrays)

    def run(rank: int) -> None:
        try:
            network.wait_for_turn(rank)
            outputs[rank] = function(arrays[rank].copy(), Communicator(network, rank))
            network.finish(rank)
        except _Stopped:
            pass
        except BaseException as error:
            network.fail(error)

    threads = [
        threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(len(arrays))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException as error:  # Ctrl-C: a rank ends when it next waits
        network.fail(error)
        raise
    if network.failure is not None:
        raise network.failure
    for transfer in network.unreceived():
        raise Invalid(
            f"Rank {transfer.source} sends an array to rank {transfer.target}, which never "
            "receives it."
        )
    return outputs, network.transfers


def _is_sent(transfer: _Transfer, length: int, num_ranks: int) -> np.ndarray:
    """Return for each element of the whole array whether a message contains it.

    In the traced run, element i, counted from 1, has the value 1 + scale · i on every rank. The sum
    of m ranks has m times that; in a mean, m is a multiple of 1 / num_ranks.
    """
    values = np.asarray(transfer.array, float).ravel()
    num_summed = np.round(values * num_ranks) / num_ranks
    with np.errstate(divide="ignore", invalid="ignore"):
        positions = (values / num_summed - 1) / _SCALE - 1
    nearest = np.round(positions)
    if not np.all((np.abs(positions - nearest) < 0.1) & (nearest >= 0) & (nearest < length)):
        raise Invalid(
            f"Rank {transfer.source} sends rank {transfer.target} something that is not a part of "
            "its array, or a sum or mean of such parts."
        )
    is_sent = np.zeros(length, bool)
    is_sent[nearest.astype(int)] = True
    return is_sent


def _number_pieces(sent: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Return the number of the piece of each element; a piece begins where a message does."""
    begins = np.zeros(length, bool)
    for is_sent in sent:
        begins[1:] |= is_sent[1:] != is_sent[:-1]
    return np.cumsum(begins)


def _distinct(numbers: np.ndarray) -> tuple[int, ...]:
    return tuple(np.unique(numbers).tolist())
