"""Exercises of lab 11, Multi-node training."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from dltlab.exercises import (
    Array,
    Integer,
    Number,
    correct,
    exercise,
    question,
    require,
    wrong,
)


@exercise(
    "The ranks of a node begin where those of the node before end.",
    "Add up the workers of all nodes before this one: `sum(workers_per_node[:node])`.",
    returns=Integer("rank"),
    otherwise="`{call}` returns {value}. Number the workers of node 0 first, then those of node 1, "
    "and so on; count from 0.",
)
def rank_of():
    yield 2, 1, [4, 3, 5, 6]
    yield 3, 0, [2, 5, 7, 3, 4]
    yield 0, 3, [5, 4]
    yield 1, 6, [3, 8, 2]


@rank_of.mistakes
def _(node, local_rank, workers_per_node):
    rank = sum(workers_per_node[:node]) + local_rank
    yield (
        "Your formula is correct only if all nodes have as many workers as this one. Add up those "
        "of the nodes before it.",
        node * workers_per_node[node] + local_rank,
    )
    yield (
        "Your formula is correct only if all nodes have as many workers as the first. Add up those "
        "of the nodes before it.",
        node * workers_per_node[0] + local_rank,
    )
    yield "You count the workers of the node itself, too.", rank + workers_per_node[node]
    yield "You return the number on the node.", local_rank
    yield "You count from 1. Ranks count from 0.", rank + 1
    yield "You return the first rank of the node.", rank - local_rank
    yield (
        "You add the number of the node, not the workers on the nodes before it.",
        (node + local_rank),
    )


@rank_of.accepts
def _(node, local_rank, workers_per_node):
    places = [(n, k) for n, count in enumerate(workers_per_node) for k in range(count)]
    return places.index((node, local_rank))


@exercise(
    "`divmod(num_rows, size)` gives the rows that all workers get, and how many remain.",
    "The remaining rows go to the first workers, one each. So a share begins at `rank` times the "
    "rows that all get, plus one row for each worker before it that has one more.",
    "`start = rank * rows + min(rank, rest)`, and the share has `rows + (rank < rest)` rows.",
    returns=(Integer("start"), Integer("stop")),
    otherwise="`{call}` returns {value}. The shares follow each other in the order of the ranks; "
    "the first workers have one row more where the rows cannot be divided evenly.",
)
def share():
    yield 11, 2, 4
    yield 10, 3, 4
    yield 29, 0, 6
    yield 12, 1, 3
    yield 3, 4, 5


@share.mistakes
def _(num_rows, rank, size):
    rows, rest = divmod(num_rows, size)
    start = rank * rows + min(rank, rest)
    stop = start + rows + (rank < rest)
    most = -(-num_rows // size)
    yield (
        "The last rows are in no share: what becomes of the remainder of num_rows / size?",
        (rank * rows, (rank + 1) * rows),
    )
    yield (
        "The last worker gets the whole remainder, and the others wait for it. No worker may have "
        "more than one row more than another.",
        (rank * rows, num_rows if rank == size - 1 else (rank + 1) * rows),
    )
    yield (
        "All but the last worker get as many rows as possible, and the last one what is left. No "
        "worker may have more than one row more than another.",
        (min(rank * most, num_rows), min((rank + 1) * most, num_rows)),
    )
    yield (
        "Your shares are even and complete. But give the row more to the first workers.",
        (rank * num_rows // size, (rank + 1) * num_rows // size),
    )
    yield "`stop` is the first row after the share, as in a slice.", (start, stop - 1)
    yield "You return how many rows there are. Return where the share ends.", (start, stop - start)
    yield (
        "The first workers have one row more, so that later shares begin later.",
        (rank * rows, rank * rows + rows + (rank < rest)),
    )
    yield "Every share begins with row 0.", (0, stop - start)


@share.accepts
def _(num_rows, rank, size):
    stops = np.cumsum([len(part) for part in np.array_split(np.arange(num_rows), size)])
    return (0 if rank == 0 else stops[rank - 1]), stops[rank]


@exercise(
    "`if rank == 0:` comes first: the other workers have nothing to do.",
    "Write into another file in the same folder, such as `path.with_name('beside')`. It may be "
    "incomplete.",
    "`beside.replace(path)` gives it the name of the old file in one step: a program that opens "
    "`path` gets the old file or the new one, and nothing in between.",
)
def save(answer):
    """Let the answer write files, and look at them while it does."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "checkpoint")
        returned = [answer(path, [b"of worker 1"], 1)]
        require(
            not os.listdir(folder),
            "Worker 1 writes, too. Two workers that write one file at the same time damage it.",
        )
        returned.append(answer(path, [b"old ", b"content"], 0))
        require(path.exists(), "Worker 0 does not write the file.")
        _require_content(path, b"old content")
        seen: list[bytes | None] = []

        def chunks():
            for chunk in (b"the ", b"new ", b"content"):
                seen.append(path.read_bytes() if path.exists() else None)
                yield chunk

        os.link(path, Path(folder, "link"))
        answer(path, chunks(), 0)
        require(
            None not in seen,
            "While worker 0 writes, there is no file: a worker that is killed now has lost all.",
        )
        require(
            set(seen) == {b"old content"} and Path(folder, "link").read_bytes() == b"old content",
            "You write into the old file. A worker that is killed while it does leaves half a "
            "file, and no old one.",
        )
        _require_content(path, b"the new content")
        rest = set(os.listdir(folder)) - {"checkpoint", "link"}
        require(not rest, f"You leave the file {', '.join(rest)} behind.")
        require(
            list(map(bool, returned)) == [False, True],
            "Your files are correct. Return False where a worker does not write, and True on "
            "worker 0.",
        )


def _require_content(path, expected):
    content = path.read_bytes()
    require(content == expected, f"The file contains {content!r} after the chunks of {expected!r}.")


@save.accepts
def _(path, chunks, rank):
    if rank:
        return False
    beside = f"{path}.new"
    with open(beside, "wb") as file:
        file.writelines(chunks)
        os.fsync(file.fileno())
    os.replace(beside, path)
    return np.True_


def _write_beside(path, chunks):
    beside = path.with_name("beside")
    with beside.open("wb") as file:
        file.writelines(chunks)
    return beside


@save.rejects("Worker 1 writes, too")
def _(path, chunks, rank):
    _write_beside(path, chunks).replace(path)
    return True


@save.rejects("Worker 0 does not write")
def _(path, chunks, rank):
    if rank == 0:
        _write_beside(path, chunks)
    return rank == 0


@save.rejects("there is no file")
def _(path, chunks, rank):
    if rank == 0:
        path.unlink(missing_ok=True)
        _write_beside(path, chunks).replace(path)
    return rank == 0


@save.rejects("You write into the old file")
def _(path, chunks, rank):
    if rank == 0:
        with path.open("wb") as file:
            file.writelines(chunks)
    return rank == 0


@save.rejects("You write into the old file")
def _(path, chunks, rank):
    if rank == 0:
        path.write_bytes(b"".join(chunks))
    return rank == 0


@save.rejects("behind")
def _(path, chunks, rank):
    if rank == 0:
        beside = _write_beside(path, chunks)
        path.with_name("copy").write_bytes(beside.read_bytes())
        beside.replace(path)
    return rank == 0


@save.rejects("The file contains")
def _(path, chunks, rank):
    if rank == 0:
        _write_beside(path, list(chunks)[-1:]).replace(path)
    return rank == 0


@save.rejects("Your files are correct")
def _(path, chunks, rank):
    if rank == 0:
        _write_beside(path, chunks).replace(path)
    return True


def _step_times(num_workers, num_steps, straggler, factor, hiccup, seed):
    """Return seconds (workers, steps): one worker is slow, another one once."""
    times = 0.1 + 0.01 * np.random.default_rng(seed).gamma(2.0, size=(num_workers, num_steps))
    times[straggler] *= factor
    times[hiccup, num_steps // 3] += 20.0
    return times


@exercise(
    "`np.median(compute, axis=1)` is a number for each worker, and a single hiccup does not change "
    "it.",
    "A step takes as long as its slowest worker: `compute.max(axis=0)`.",
    "`np.delete(compute, worker, axis=0)` are the times of the others.",
    returns=(Integer("worker"), Number("factor")),
    otherwise={
        "worker": "{value} is not the worker with the largest median.",
        "factor": "You found the worker. But your factor is not the time of all steps with it, "
        "over the time of all steps without it.",
    },
)
def find_straggler():
    yield (_step_times(4, 30, 2, 1.4, 0, 1),)
    yield (_step_times(3, 50, 0, 1.7, 1, 2),)
    yield (_step_times(6, 20, 5, 1.3, 3, 3),)


@find_straggler.mistakes
def _(compute):
    medians = np.median(compute, axis=1)
    worker = np.argmax(medians)
    others = np.delete(compute, worker, axis=0)
    steps, without = compute.max(axis=0), others.max(axis=0)
    yield (
        "You take the mean, or the slowest step: a single hiccup made another worker the "
        "straggler. Take the median.",
        (np.argmax(compute.mean(axis=1)), ...),
    )
    yield "You return the fastest worker.", (np.argmin(medians), ...)
    yield "You count the workers from 1.", (worker + 1, ...)
    yield "Your factor is the inverse.", (..., without.sum() / steps.sum())
    yield (
        "You compare the worker with the others. But a step waits for the slowest of the others, "
        "too: compare the times of the steps with it and without it.",
        (..., medians[worker] / np.median(others)),
    )
    yield (
        "You compare the medians of the steps. The training takes the sum of all steps.",
        (..., np.median(steps) / np.median(without)),
    )
    yield (
        "You take the mean over the workers. A step takes as long as its slowest worker.",
        (..., compute.mean(axis=0).sum() / others.mean(axis=0).sum()),
    )
    yield (
        "You return the seconds that are saved. Return a factor.",
        (
            ...,
            steps.sum() - without.sum(),
        ),
    )


@find_straggler.accepts
def _(compute):
    worker = int(np.argsort(np.median(compute, axis=1))[-1])
    rest = [times for number, times in enumerate(compute) if number != worker]
    return worker, float(np.mean(np.max(compute, axis=0)) / np.mean(np.max(rest, axis=0)))


@exercise(
    "There is a checkpoint for each interval: it costs `checkpoint` seconds of every `interval`.",
    "There is a failure in every `mtbf` seconds. What does it cost? The restart, and the work "
    "since the last checkpoint: half an interval on average.",
    returns=Number("share"),
    otherwise="`{call}` returns {value}. Add two shares: the checkpoints' time over the interval, "
    "and what a failure costs over the time between two failures.",
)
def lost_share():
    yield 600.0, 20.0, 300.0, 10_000.0
    yield 900.0, 5.0, 100.0, 50_000.0
    yield 60.0, 1.0, 30.0, 4_000.0


@lost_share.mistakes
def _(interval, checkpoint, restart, mtbf):
    yield (
        "You count the whole interval as lost. A failure may come at any moment: on average half "
        "of the interval is lost.",
        checkpoint / interval + (interval + restart) / mtbf,
    )
    yield "The restart is missing.", checkpoint / interval + interval / 2 / mtbf
    yield (
        "The work since the last checkpoint is missing: it has to be done again.",
        checkpoint / interval + restart / mtbf,
    )
    yield "The time of the checkpoints is missing.", (interval / 2 + restart) / mtbf
    yield (
        "You count the checkpoints once between two failures. There is one in every interval.",
        (checkpoint + interval / 2 + restart) / mtbf,
    )
    yield (
        "You return the share that is left. Return the one that is lost.",
        1 - checkpoint / interval - (interval / 2 + restart) / mtbf,
    )
    yield (
        "You return seconds. Divide by the time between two failures.",
        (mtbf / interval * checkpoint + interval / 2 + restart),
    )


@lost_share.accepts
def _(interval, checkpoint, restart, mtbf):
    return (mtbf / interval * checkpoint + interval / 2 + restart) / mtbf


@question
def one_batch_less():
    """Worker 0 of two has 5 batches in an epoch, worker 1 has 4. What happens in the fifth step?"""
    return [
        wrong(
            "Worker 0 makes the step alone, and its weights are a little better.",
            "Then the weights would differ from now on. A step is made together, or not at all.",
        ),
        correct(
            "Worker 0 waits for a gradient of worker 1 that never comes.",
            "Worker 1 has gone on to something else. So all workers must have equally many steps.",
        ),
        wrong(
            "Worker 1 sends a gradient of zeros.",
            "Somebody would have to program that. Nobody tells worker 1 that there is a step left.",
        ),
        wrong(
            "TensorFlow moves some rows from worker 0 to worker 1.",
            "A worker knows only its own data.",
        ),
    ]


@question
def why_all():
    """One of 16 workers was killed. Why does the launcher restart the other 15, too?"""
    return [
        wrong(
            "Because their memory may be damaged.",
            "They are fine. Each of them has all the weights, as of its last step.",
        ),
        wrong(
            "Because a new worker cannot get the weights of the others.",
            "It could: prepared training sends them to all workers when it begins.",
        ),
        correct(
            "Because they were in the middle of a sum with it: some have its gradient, some not.",
            "Nobody knows which step they have in common. The last checkpoint is one that all had.",
        ),
        wrong(
            "Because Slurm charges for all of them anyway.",
            "It does, but that is no reason to stop 15 workers that work.",
        ),
    ]


@question
def who_runs_it():
    """How often does the script of the job, `job.sh`, run when Slurm gives it two nodes?"""
    return [
        wrong(
            "Twice, once on each node.",
            "Then the secret would be made twice, and the launchers would refuse each other.",
        ),
        correct(
            "Once, on the first node; what `srun` starts runs on each node.",
            "So the secret is made once, and `srun` hands it to both launchers.",
        ),
        wrong(
            "Eight times, once for each worker.",
            "The workers are started by the launchers, of which there is one on each node.",
        ),
        wrong(
            "Not at all: sbatch only reads the lines with #SBATCH.",
            "It reads them to know what the job needs. For bash they are comments.",
        ),
    ]


@exercise(
    "Begin with shares in proportion to the speed, 1 / seconds_per_row. Where is that wrong?",
    "Hand out one row after the other: each goes to the worker that would be ready first with it.",
    "A worker with n rows is ready after `overhead + n * seconds_per_row`.",
)
def balance(answer, num_clusters=30, bar=1.01):
    """Compare the slowest worker's time with the shortest possible, for several clusters."""
    ratios = []
    for seed in range(num_clusters):
        batch_size, seconds, overhead = _cluster(seed)
        value = answer(batch_size, seconds.copy(), overhead.copy())
        rows = Array("list of rows").read(value, shape=seconds.shape)
        require(np.array_equal(rows, np.round(rows)), "Your numbers of rows are not whole numbers.")
        require(np.all(rows >= 0), "One of your numbers of rows is negative.")
        require(
            rows.sum() == batch_size,
            f"You give the workers {rows.sum():g} rows of a batch of {batch_size}.",
        )
        ratios.append(_step(rows, seconds, overhead) / _shortest(batch_size, seconds, overhead))
    excess = np.mean(ratios) - 1
    require(
        excess <= bar - 1,
        f"Your steps take {excess:.1%} longer than necessary; the bar is {bar - 1:.0%}.",
    )
    return f"Your steps take {excess:.2%} longer than necessary."


def _cluster(seed):
    generator = np.random.default_rng(seed)
    num_workers = int(generator.integers(2, 17))
    seconds = 0.001 * np.exp(generator.uniform(0, 1.4, num_workers))
    overhead = generator.uniform(0, 0.03, num_workers)
    return int(generator.integers(8, 33)) * num_workers, seconds, overhead


def _step(rows, seconds, overhead):
    return np.max(overhead + rows * seconds)


def _shortest(batch_size, seconds, overhead):
    """Return the time of the shortest step: the n-th smallest of all times at which a row ends."""
    ends = overhead[:, None] + seconds[:, None] * np.arange(1, batch_size + 1)
    return max(np.sort(ends, axis=None)[batch_size - 1], overhead.max())


@balance.accepts
def _(batch_size, seconds_per_row, overhead):
    ends = overhead[:, None] + seconds_per_row[:, None] * np.arange(1, batch_size + 1)
    last = np.sort(ends, axis=None)[batch_size - 1]
    return (ends <= last).sum(axis=1).tolist()


@balance.rejects("longer than necessary; the bar is 1%")
def _(batch_size, seconds_per_row, overhead):
    return [batch_size // len(overhead)] * len(overhead)


@balance.rejects("longer than necessary; the bar is 1%")
def _(batch_size, seconds_per_row, overhead):
    speed = 1 / seconds_per_row
    stops = np.round(batch_size * np.cumsum(speed) / speed.sum()).astype(int)
    return np.diff(stops, prepend=0)


@balance.rejects("not whole numbers")
def _(batch_size, seconds_per_row, overhead):
    return batch_size / seconds_per_row / np.sum(1 / seconds_per_row)


@balance.rejects("rows of a batch of")
def _(batch_size, seconds_per_row, overhead):
    speed = 1 / seconds_per_row
    return np.floor(batch_size * speed / speed.sum()).astype(int)


@balance.rejects("is negative")
def _(batch_size, seconds_per_row, overhead):
    rows = np.zeros(len(overhead), int)
    rows[0], rows[1] = batch_size + 1, -1
    return rows
