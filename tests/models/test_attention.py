"""The layer of attention computes its definition, also with a cache and in bfloat16."""

import numpy as np
import pytest

from dltlab.models.attention import CausalAttention

CONTEXT = 6


def expected_weights(query: np.ndarray, key: np.ndarray, slope: float) -> np.ndarray:
    """The weights of one head, in float64 and with loops."""
    rows = np.zeros((len(query), len(key)))
    for i, q in enumerate(query):
        place = len(key) - len(query) + i
        seen = range(max(0, place - CONTEXT + 1), place + 1)
        scores = [q @ key[j] / np.sqrt(len(q)) - slope * (place - j) for j in seen]
        powers = np.exp(np.array(scores) - max(scores))
        rows[i, list(seen)] = powers / powers.sum()
    return rows


@pytest.mark.parametrize(("num_queries", "num_keys"), [(10, 10), (3, 10), (1, 4)])
def test_attention_is_that_of_its_definition(num_queries, num_keys):
    generator = np.random.default_rng(1)
    query = generator.normal(size=(2, num_queries, 8)).astype("float32")
    key, value = generator.normal(size=(2, 2, num_keys, 8)).astype("float32")
    layer = CausalAttention(heads=2, context=CONTEXT)
    result = np.asarray(layer(query, key, value))
    for head, slope in enumerate([1 / CONTEXT, 4]):
        part = slice(4 * head, 4 * head + 4)
        for example in range(2):
            weights = expected_weights(query[example, :, part], key[example, :, part], slope)
            np.testing.assert_allclose(
                result[example, :, part], weights @ value[example, :, part], atol=1e-5
            )


def test_keys_that_do_not_exist_are_not_seen():
    query, key, value = np.random.default_rng(1).normal(size=(3, 1, 4, 8)).astype("float32")
    layer, filled = CausalAttention(heads=2, context=8), np.array([[0, 0, 1, 1]], "float32")
    result = np.asarray(layer(query[:, -1:], key, value, filled))
    expected = np.asarray(layer(query[:, -1:], key[:, 2:], value[:, 2:]))
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_weights_add_up_to_one_also_in_bfloat16():
    query, key = np.random.default_rng(1).normal(size=(2, 1, 5, 8)).astype("float32")
    layer = CausalAttention(heads=2, context=8, dtype="mixed_bfloat16")
    weights = np.asarray(layer.attention_weights(query, key)).astype("float32")
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=0.02)
