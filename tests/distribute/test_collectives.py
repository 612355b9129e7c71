import json
import math

import numpy as np
import pytest

from dltlab import distribute
from dltlab.distribute import collectives
from dltlab.distribute.schedules import ALGORITHMS
from dltlab.errors import Invalid

REDUCTIONS = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}
TOLERANCES = {"float16": 2e-2, "float32": 1e-5, "complex64": 1e-5}
DTYPES = ("float64", *TOLERANCES, "int8", "uint64")


def every_algorithm_of(collective):
    return pytest.mark.parametrize("algorithm", ALGORITHMS[collective])


def random_arrays(num_ranks, shape, dtype="float64"):
    rng = np.random.default_rng(num_ranks)
    return [(1 + 3 * rng.random(shape)).astype(dtype) for _ in range(num_ranks)]


def cases():
    """Yield the arrays of all ranks, for 1 to 9 ranks, also shorter than the number of ranks."""
    for num_ranks in range(1, 10):
        for i, length in enumerate((0, 1, 5, 24)):
            yield random_arrays(num_ranks, (length,), DTYPES[(num_ranks + i) % len(DTYPES)])


def assert_close(output, expected):
    assert output.dtype == expected.dtype
    np.testing.assert_allclose(output, expected, rtol=TOLERANCES.get(str(output.dtype), 1e-12))


@every_algorithm_of("all_reduce")
@pytest.mark.parametrize("op", REDUCTIONS)
def test_all_ranks_get_the_same_reduction_which_is_that_of_numpy(op, algorithm):
    for arrays in cases():
        outputs = distribute.all_reduce(arrays, op, algorithm=algorithm).outputs

        assert_close(outputs[0], REDUCTIONS[op].reduce(arrays, dtype=arrays[0].dtype))
        for output in outputs[1:]:
            np.testing.assert_array_equal(output, outputs[0])


@every_algorithm_of("reduce_scatter")
@pytest.mark.parametrize("op", REDUCTIONS)
def test_each_rank_gets_its_part_of_the_reduction(op, algorithm):
    for arrays in cases():
        run = distribute.reduce_scatter(arrays, op, algorithm=algorithm)

        whole = REDUCTIONS[op].reduce(arrays, dtype=arrays[0].dtype)
        for output, expected in zip(run.outputs, np.array_split(whole, len(arrays)), strict=True):
            assert_close(output, expected)


@every_algorithm_of("reduce")
def test_only_the_root_gets_a_reduction(algorithm):
    for arrays in cases():
        root = len(arrays) // 2
        outputs = distribute.reduce(arrays, root=root, algorithm=algorithm).outputs

        assert_close(outputs[root], np.add.reduce(arrays, dtype=arrays[0].dtype))
        assert [output for rank, output in enumerate(outputs) if rank != root] == [None] * (
            len(arrays) - 1
        )


@every_algorithm_of("all_gather")
def test_all_ranks_get_the_arrays_of_all_ranks_also_of_different_lengths(algorithm):
    for num_ranks in range(1, 10):
        arrays = [np.full((rank % 3, 2), rank, np.int16) for rank in range(num_ranks)]
        outputs = distribute.all_gather(arrays, algorithm=algorithm).outputs

        for output in outputs:
            np.testing.assert_array_equal(output, np.concatenate(arrays))


@every_algorithm_of("broadcast")
def test_all_ranks_get_the_array_of_the_root(algorithm):
    for (array, *_), root in ((arrays, len(arrays) - 1) for arrays in cases()):
        outputs = distribute.broadcast(array, root + 1, root=root, algorithm=algorithm).outputs

        for output in outputs:
            np.testing.assert_array_equal(output, array)


def test_numbers_of_ranks_may_be_integers_of_numpy():
    run = distribute.broadcast(1.0, np.int64(2), root=np.int64(1))  # type: ignore[arg-type]

    assert json.loads(json.dumps(run.as_dict()))["outputs"] == [1.0, 1.0]


def test_shapes_are_kept():
    arrays = random_arrays(3, (2, 5))
    assert distribute.all_reduce(arrays).outputs[0].shape == (2, 5)
    assert [part.shape for part in distribute.reduce_scatter(arrays).outputs] == [
        (1, 5),
        (1, 5),
        (0, 5),
    ]
    assert distribute.all_reduce([1.5, 2.5]).outputs[1].shape == ()


def test_the_mean_of_integers_is_not_an_integer():
    run = distribute.all_reduce([[1, 2], [2, 5]], "mean")

    np.testing.assert_array_equal(run.outputs[0], [1.5, 3.5])


def test_the_mean_keeps_the_dtype_of_floating_point_numbers():
    run = distribute.reduce_scatter(random_arrays(4, 8, "float32"), "mean")

    assert {output.dtype for output in run.outputs} == {np.dtype("float32")}


def test_the_arrays_of_the_ranks_stay_as_they_are():
    arrays = random_arrays(4, 8)
    copies = [array.copy() for array in arrays]
    run = distribute.all_reduce(arrays)
    for output in run.outputs:
        np.asarray(output)[:] = 0

    np.testing.assert_array_equal(arrays, copies)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 7, 8])
def test_a_ring_all_reduce_sends_the_least_possible_number_of_bytes(num_ranks):
    run = distribute.all_reduce(random_arrays(num_ranks, num_ranks * 10))

    assert len(run.steps) == 2 * (num_ranks - 1)
    floor = 2 * (num_ranks - 1) / num_ranks * run.num_bytes
    np.testing.assert_array_equal(run.bytes_sent, np.full(num_ranks, floor))
    np.testing.assert_array_equal(run.bytes_received, run.bytes_sent)


@pytest.mark.parametrize("num_ranks", [2, 3, 4, 8, 13])
def test_times_are_those_of_the_closed_forms(num_ranks):
    arrays = random_arrays(num_ranks, 8 * num_ranks)
    alpha, beta, num_bytes = 3e-6, 1e-9, arrays[0].nbytes
    log = math.ceil(math.log2(num_ranks))

    def seconds(algorithm):
        return distribute.all_reduce(arrays, algorithm=algorithm).seconds(alpha, beta)

    ring = 2 * (num_ranks - 1) * (alpha + num_bytes / num_ranks * beta)
    assert seconds("ring") == pytest.approx(ring)
    assert seconds("tree") == pytest.approx(2 * log * (alpha + num_bytes * beta))
    if num_ranks == 2**log:
        floor = 2 * (num_ranks - 1) / num_ranks * num_bytes * beta
        assert seconds("halving_doubling") == pytest.approx(2 * log * alpha + floor)
        assert seconds("recursive_doubling") == pytest.approx(log * (alpha + num_bytes * beta))


@pytest.mark.parametrize("collective", ["all_gather", "reduce_scatter"])
@pytest.mark.parametrize("num_ranks", [1, 2, 5, 8])
def test_bruck_sends_as_many_bytes_as_a_ring_in_fewer_steps(collective, num_ranks):
    arrays = random_arrays(num_ranks, num_ranks * 4)
    ring, bruck = (
        getattr(distribute, collective)(arrays, algorithm=algorithm)
        for algorithm in ("ring", "bruck")
    )

    assert len(ring.steps) == num_ranks - 1
    assert len(bruck.steps) == math.ceil(math.log2(num_ranks))
    np.testing.assert_array_equal(ring.bytes_sent, bruck.bytes_sent)


def test_the_contents_tell_whose_data_each_piece_contains():
    contents = distribute.all_reduce(random_arrays(3, 6)).contents

    assert contents.shape == (5, 3, 3, 3)
    np.testing.assert_array_equal(contents[0].sum(axis=-1), 1)
    np.testing.assert_array_equal(np.diagonal(contents[2]), True)  # reduced and scattered
    np.testing.assert_array_equal(contents[-1], True)


def test_a_run_is_a_table_with_a_row_for_each_step():
    run = distribute.broadcast(np.zeros(10, np.int8), 4)

    assert run.table.values.tolist() == [[1, 1, 10, 10], [2, 2, 20, 10]]
    assert "broadcast (tree) over 4 ranks, 10 bytes: 2 steps" in repr(run)
    assert json.loads(json.dumps(run.as_dict()))["steps"][0] == [
        {"source": 0, "target": 2, "pieces": [0], "reduces": False}
    ]


def test_a_run_of_one_rank_or_of_empty_arrays_has_a_summary():
    assert "1 ranks, 8 bytes: 0 steps" in repr(distribute.all_reduce([1.0]))
    assert "0 bytes: 2 steps" in repr(distribute.all_reduce([[], []]))


def test_the_figure_has_a_panel_for_the_start_and_each_step():
    figure = distribute.all_reduce(random_arrays(4, 8)).figure()

    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["start", *(f"after step {step}" for step in range(1, 7))]


def test_many_ranks_are_shown_as_a_table(capsys):
    run = distribute.all_reduce(random_arrays(9, 9))
    run.show()

    assert run.figure() is None
    assert "bytes on the busiest link" in capsys.readouterr().out
    with pytest.raises(Invalid, match="9 ranks; an animation shows 8 at most"):
        run.animate()


def test_an_animation_is_an_image_with_a_description_in_a_notebook(monkeypatch):
    bundles = []
    monkeypatch.setattr(collectives, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda bundle, **options: bundles.append(bundle))
    run = distribute.all_reduce(random_arrays(2, 2))
    run.animate()

    (bundle,) = bundles
    assert bundle["text/html"].startswith(f'<img alt="{run.alt}" src="data:image/gif;base64,')
    assert bundle["text/plain"] == run.alt


def test_an_animation_is_printed_as_its_summary_in_a_terminal(capsys):
    run = distribute.all_reduce(random_arrays(2, 2))
    run.animate()

    assert capsys.readouterr().out == f"{run.summary}\n"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], "no array; a collective needs at least one rank"),
        ([[1.0, 2.0], [1.0]], r"rank 1 has the shape \(1,\), that of rank 0 \(2,\)"),
        ([np.ones(2), np.ones(2, "float32")], "rank 1 is of float32, that of rank 0 of float64"),
        ([["a"]], "rank 0 is of <U1, which is not numeric"),
        ([[True]], "rank 0 is of bool, which is not numeric"),
        (3, "a list with one array for each"),
        ([[[1], [1, 2]]], "a list with one array for each"),
    ],
)
def test_arrays_that_cannot_be_reduced_are_refused(arrays, message):
    with pytest.raises(Invalid, match=message):
        distribute.all_reduce(arrays)


def test_arrays_that_cannot_be_joined_are_refused():
    with pytest.raises(Invalid, match=r"only their first dimensions may differ"):
        distribute.all_gather([np.ones((2, 3)), np.ones((2, 4))])


def test_unknown_names_and_ranks_are_refused_with_the_known_ones():
    with pytest.raises(Invalid, match="operation 'add'; it is one of sum, prod, max, min, mean"):
        distribute.all_reduce([1.0], "add")
    with pytest.raises(Invalid, match="algorithm 'tree' of all_gather; it is one of ring, bruck"):
        distribute.all_gather([1.0], algorithm="tree")
    with pytest.raises(Invalid, match="root is 2; it must be a rank from 0 to 1"):
        distribute.reduce([1.0, 2.0], root=2)
    with pytest.raises(Invalid, match="num_ranks is 0"):
        distribute.broadcast(1.0, 0)
    with pytest.raises(Invalid, match="num_ranks is '2'; it must be an integer"):
        distribute.broadcast(1.0, "2")  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="alpha is -1 and beta 0; neither may be negative"):
        distribute.all_reduce([1.0]).seconds(-1, 0)
