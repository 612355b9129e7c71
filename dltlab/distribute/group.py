"""The workers of a training, and sums of tensors over them: `Group`, `join`."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.distribute.cluster import Worker, worker
from dltlab.distribute.launching_channel import Channel
from dltlab.distribute.socket_ring import Address, SocketRing
from dltlab.distribute.transports import start_transport
from dltlab.distribute.transports.base import Transport
from dltlab.errors import Damaged, Invalid, Unavailable

if TYPE_CHECKING:
    import tensorflow as tf

_RETRY_SECONDS = 0.1
_HELLO_SECONDS = 5.0
_PACK_BYTES = 4 << 20  # reduced at once, while the rest of the gradients is computed

_joined: dict[Worker, "Group"] = {}


class Group:
    """The workers of a training; each is a process with the same program.

    Attributes:
        rank: The number of this worker, from 0.
        size: The number of workers.
        transport: What sums tensors over the workers; its `name` is that in `join`.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport, self._ring = transport, transport.ring
        self.rank, self.size = self._ring.rank, self._ring.size

    @property
    def failure(self) -> str:
        """Which worker was lost; empty where none was."""
        return self.transport.failure

    def exchange(self, value: Any) -> list[Any]:
        """Return the values of all workers, JSON, in the order of their ranks."""
        return self._ring.exchange(value)

    def require_same(self, properties: dict[str, Any]) -> None:
        """Check that all workers have the same properties, by name.

        Raises:
            Invalid: They differ; the message names the workers and their values.
        """
        first, *others = self.exchange(properties)
        for rank, other in enumerate(others, 1):
            for name, value in first.items():
                if other.get(name) != value:
                    raise Invalid(
                        f"The {name} of worker {rank} differs from that of worker 0: "
                        f"{_short(other.get(name))} instead of {_short(value)}. Start all workers "
                        "with the same program, arguments, data and versions."
                    )

    def sum(self, tensors: Sequence["tf.Tensor"]) -> list["tf.Tensor"]:
        """Return the sums of tensors over all workers, in a graph or eagerly.

        Numbers of 16 bits are added in float32. The rows of `tf.IndexedSlices` are gathered.
        """
        import tensorflow as tf

        sums: list[tf.Tensor] = list(tensors)
        if self.size == 1:
            return sums
        packs: dict[tf.DType, list[list[int]]] = {}
        for index in reversed(range(len(sums))):  # the last layer's gradients are ready first
            tensor = sums[index]
            if isinstance(tensor, tf.IndexedSlices):
                sums[index] = self._gather_slices(tensor)
                continue
            packs_of_dtype = packs.setdefault(_sum_dtype(tensor.dtype), [[]])
            packed = sum(_num_bytes(sums[packed]) for packed in packs_of_dtype[-1])
            if packs_of_dtype[-1] and packed + _num_bytes(tensor) > _PACK_BYTES:
                packs_of_dtype.append([])
            packs_of_dtype[-1].append(index)
        for dtype, packs_of_dtype in packs.items():
            for indices in packs_of_dtype:
                self._sum_pack(sums, indices, dtype)
        return sums

    def _sum_pack(self, tensors: list["tf.Tensor"], indices: list[int], dtype: "tf.DType") -> None:
        import tensorflow as tf

        parts = [tf.reshape(tf.cast(tensors[index], dtype), [-1]) for index in indices]
        flat = self.transport.sum(tf.concat(parts, 0))
        lengths = [tf.size(part) for part in parts]
        for index, part in zip(indices, tf.split(flat, lengths, num=len(parts)), strict=True):
            tensor = tensors[index]
            shaped = tf.ensure_shape(tf.reshape(part, tf.shape(tensor)), tensor.shape)
            tensors[index] = tf.cast(shaped, tensor.dtype)

    def gather_rows(self, tensor: "tf.Tensor") -> "tf.Tensor":
        """Return the rows of all workers, in the order of their ranks; they may differ in number.

        Args:
            tensor: `(n, …)`, with the same shape on all workers except for n.
        """
        import tensorflow as tf

        if self.size == 1:
            return tensor
        flat = tf.numpy_function(self._gather_array, [tf.reshape(tensor, [-1])], tensor.dtype)
        rows = tf.reshape(flat, tf.concat([[-1], tf.shape(tensor)[1:]], 0))
        return tf.ensure_shape(rows, [None, *tensor.shape[1:]])

    def _gather_array(self, array: np.ndarray) -> np.ndarray:
        return np.concatenate(self._ring.all_gather(array))

    def _gather_slices(self, slices: "tf.IndexedSlices") -> "tf.IndexedSlices":
        import tensorflow as tf

        return tf.IndexedSlices(
            self.gather_rows(slices.values), self.gather_rows(slices.indices), slices.dense_shape
        )


def join(transport: str = "auto", timeout: float = 300.0) -> Group:
    """Return the group of the workers that this process belongs to; see `worker`.

    A second call returns the same group. To use TensorFlow's collectives, call it before
    TensorFlow computes anything.

    Args:
        transport: What sums tensors over the workers, the same on all of them: "tensorflow" (NCCL
            between GPUs, gRPC between CPUs), "mpi" (in jobs that mpirun or srun has started),
            "shared_memory" (of one host) or "ring" (sockets). "auto" is the first of these that
            all workers can use; TensorFlow only where every worker has a GPU.
        timeout: Seconds to wait for the other workers.

    Raises:
        Invalid: The environment does not say where the workers meet, there is no such transport, or
            the workers ask for different ones.
        Unavailable: A worker does not come in time, or cannot use the transport; the message names
            it.
    """
    place = worker()
    if place not in _joined:
        _joined[place] = _join(place, transport, timeout)
    group = _joined[place]
    if transport not in ("auto", group.transport.name) and group.size > 1:
        raise Invalid(
            f"This process has joined with the transport {group.transport.name}: name {transport} "
            "in its first call of join."
        )
    return group


def _join(place: Worker, transport: str, timeout: float) -> Group:
    if place.world_size == 1:
        ring = SocketRing(0, 1, lambda address: [address], "")
        return Group(start_transport(transport, ring, place))
    if not place.rendezvous or not place.token:
        raise Invalid(
            "Several workers need an address to meet and a secret: start them with dltlab launch."
        )
    deadline = monotonic() + timeout

    def exchange(address: Address) -> list[Address]:
        meet = _gather_addresses if place.rank == 0 else _send_address
        return meet(place, address, deadline)

    ring = SocketRing(
        place.rank,
        place.world_size,
        exchange,
        place.token,
        host=_own_host(place),
        timeout=timeout,
    )
    return Group(start_transport(transport, ring, place))


def _rendezvous(place: Worker) -> Address:
    host, _, port = place.rendezvous.rpartition(":")
    return host.strip("[]"), int(port)


def _own_host(place: Worker) -> str:
    """Return the address of this host on the way to the rendezvous."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(_rendezvous(place))  # sends nothing
        return str(probe.getsockname()[0])


def _gather_addresses(place: Worker, address: Address, deadline: float) -> list[Address]:
    """Collect the addresses of all workers and send them to all; what rank 0 does."""
    addresses = {0: address}
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("", _rendezvous(place)[1])))
        channels = []
        while len(addresses) < place.world_size:
            listener.settimeout(max(0.01, deadline - monotonic()))
            try:
                connection = stack.enter_context(listener.accept()[0])
                connection.settimeout(_HELLO_SECONDS)
                channel = Channel(connection, place.token, server=True)
                message = channel.receive() or {}
                addresses[int(message["rank"])] = (str(message["host"]), int(message["port"]))
                channels.append(channel)
            except TimeoutError:
                if monotonic() >= deadline:
                    missing = sorted({*range(place.world_size)} - {*addresses})
                    names = ", ".join(map(str, missing))
                    raise Unavailable(
                        f"Of {place.world_size} workers, these did not come in time: {names}."
                    ) from None
            except (OSError, Damaged, Unavailable, ValueError, KeyError):
                continue  # not a worker of this job
        ordered = [addresses[rank] for rank in range(place.world_size)]
        for channel in channels:
            channel.send({"addresses": ordered})
    return ordered


def _send_address(place: Worker, address: Address, deadline: float) -> list[Address]:
    """Send this worker's address to rank 0; return those of all workers."""
    while True:
        try:
            remaining = max(0.01, deadline - monotonic())
            with socket.create_connection(_rendezvous(place), remaining) as connection:
                connection.settimeout(remaining)
                channel = Channel(connection, place.token, server=False)
                channel.send({"rank": place.rank, "host": address[0], "port": address[1]})
                answer = channel.receive()
                if answer:
                    return [(host, port) for host, port in answer["addresses"]]
        except OSError:
            pass
        if monotonic() >= deadline:
            raise Unavailable(f"Worker 0 was not at {place.rendezvous} in time.")
        sleep(_RETRY_SECONDS)


def _sum_dtype(dtype: "tf.DType") -> "tf.DType":
    import tensorflow as tf

    if dtype in (tf.float16, tf.bfloat16):
        return tf.float32
    return tf.int64 if dtype.is_integer or dtype.is_bool else dtype


def _num_bytes(tensor: "tf.Tensor") -> int:
    return int(tensor.shape.num_elements() or 0) * int(tensor.dtype.size)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
