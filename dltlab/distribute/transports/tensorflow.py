"""TensorFlow's collectives: NCCL between GPUs, gRPC between CPUs."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dltlab.devices import list_gpus
from dltlab.distribute.cluster import Worker
from dltlab.distribute.launching_plan import join_address, reserved_port, usable_gpus
from dltlab.distribute.socket_ring import SocketRing
from dltlab.distribute.transports.base import Transport

if TYPE_CHECKING:
    import tensorflow as tf

_GROUP_KEY = 4711  # any number; the groups of tf.distribute count from 1
_CYCLE = 256  # keys for tensors of one dtype and length: more than are reduced at the same time
_PACK_BYTES = 4 << 20  # a larger tensor is reduced in parts, which is 4 times faster
_NOTICED_SECONDS = 2.0  # between TensorFlow's error and the notice of the ring
_LONGER_THAN_THE_RING = 3


class TensorFlowTransport(Transport):
    """Sums tensors with `CollectiveReduceV2`; arrays, and tensors of unknown length, by the ring.

    `MultiWorkerMirroredStrategy` only starts the servers; nothing is computed in its scope.
    """

    name = "tensorflow"
    priority = 0

    def __init__(self, ring: SocketRing) -> None:
        import tensorflow as tf

        super().__init__(ring)
        with reserved_port() as port:
            address = join_address(ring.host, port.getsockname()[1])
            addresses = ring.exchange(address)
            _let_the_ring_notice_first(ring)
            resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
                tf.train.ClusterSpec({"worker": addresses}),
                task_type="worker",
                task_id=ring.rank,
                rpc_layer="grpc",
            )
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        is_gpu = bool(tf.config.list_logical_devices("GPU"))
        self._device, self._hint = ("GPU:0", "nccl") if is_gpu else ("CPU:0", "ring")
        with tf.device("CPU:0"):
            self._calls = tf.Variable(0, trainable=False)
        with tf.device(self._device):
            # NCCL needs the same order on all workers, which using this variable enforces.
            self._order = [tf.Variable(0.0, trainable=False)] if is_gpu else []
        self._sites: dict[tuple[tf.DType, int], int] = {}
        self._sum_in_graph = tf.function(self.sum)
        ring.call_when_lost(_abort)

    @classmethod
    def unavailable_reason(cls, place: Worker) -> str:
        """Check that TensorFlow has not begun to compute, and that no GPU is shared."""
        if "tensorflow" in sys.modules and _has_started():
            return (
                "TensorFlow has begun to compute, and its collectives must be set up before; call "
                "distribute.join() at the beginning of the program, before a model is made"
            )
        if usable_gpus() and len(list_gpus()) < place.local_world_size:
            return "workers share a GPU; start at most one worker for each GPU"
        return ""

    @classmethod
    def is_automatic(cls) -> bool:
        """Return whether this worker has a GPU that TensorFlow uses."""
        if not usable_gpus():
            return False
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))

    @property
    def failure(self) -> str:
        """Which worker was lost; the ring may notice it a little later than TensorFlow."""
        self.ring.wait_for_loss(_NOTICED_SECONDS)
        return super().failure

    def all_reduce(self, array: np.ndarray) -> None:
        """Add over the ring."""
        self.ring.all_reduce(array)

    def sum(self, tensor: "tf.Tensor") -> "tf.Tensor":
        """Add with one collective, or with one for each part of a large tensor."""
        import tensorflow as tf

        if tf.executing_eagerly():
            return self._sum_in_graph(tensor)
        length = tensor.shape[0]
        if length is None:
            return super().sum(tensor)
        most = _PACK_BYTES // tensor.dtype.size
        if length <= most:
            return self._sum_pack(tensor)
        return tf.concat(
            [self._sum_pack(tensor[start : start + most]) for start in range(0, length, most)], 0
        )

    def summing(self, array: np.ndarray) -> "Callable[[], np.ndarray | tf.Tensor]":
        """Return a function that adds tensors, without copying an array."""
        import tensorflow as tf

        tensor = tf.constant(array)
        return lambda: self._sum_in_graph(tensor)

    def _sum_pack(self, tensor: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        # A key serves one dtype and length, and must be drawn when the graph runs: a loop reduces
        # the same tensor many times. Keys that are never used again would not be freed.
        kind = (tensor.dtype, int(tensor.shape[0]))
        site = self._sites.setdefault(kind, len(self._sites))
        with tf.device("CPU:0"):
            key = site * _CYCLE + self._calls.assign_add(1) % _CYCLE
        with tf.device(self._device):
            return tf.raw_ops.CollectiveReduceV2(
                input=tensor,
                group_size=self.ring.size,
                group_key=_GROUP_KEY,
                instance_key=key,
                ordering_token=[variable.handle for variable in self._order],
                merge_op="Add",
                final_op="Id",
                communication_hint=self._hint,
                timeout_seconds=0,  # otherwise two threads are started for each collective
            )


def _has_started() -> bool:
    """Return whether TensorFlow has made its devices: its settings cannot be changed any more."""
    import tensorflow as tf

    number = tf.config.threading.get_inter_op_parallelism_threads()
    try:
        tf.config.threading.set_inter_op_parallelism_threads(number + 1)
    except RuntimeError:
        return True
    tf.config.threading.set_inter_op_parallelism_threads(number)
    return False


def _let_the_ring_notice_first(ring: SocketRing) -> None:
    """Let TensorFlow wait longer for a silent worker than the ring, which knows its name."""
    from tensorflow.python.eager import context

    job = context.coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=ring.size)
    context.context().configure_coordination_service(
        "standalone",
        "/job:worker/replica:0/task:0",
        heartbeat_timeout_in_ms=int(_LONGER_THAN_THE_RING * 1000 * ring.patience),
        coordinated_jobs=[job],
    )


def _abort(failure: str) -> None:
    """End the collectives that wait for a lost worker."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    context.context().abort_collective_ops(tf.errors.UNAVAILABLE, failure)
