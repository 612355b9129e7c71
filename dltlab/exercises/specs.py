"""What an exercise returns: how its values are converted, compared and described."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from dltlab.errors import Invalid
from dltlab.exercises.answers import NotYet, require

RELATIVE_TOLERANCE = 1e-4  # float32 keeps about 7 digits; sums and exponentials lose some


class Spec(ABC):
    """One returned value, or several.

    Attributes:
        name: What the value is, in words that follow "Your", such as "new state".
    """

    def __init__(self, name: str = "result") -> None:
        self.name = name

    @abstractmethod
    def convert(self, value: Any) -> Any:
        """Convert what an answer returned.

        Raises:
            NotYet: It has a type that cannot be converted.
        """

    def convert_open(self, value: Any) -> Any:
        """Convert what a mistake returned, in which `...` stands for any value."""
        return value if value is ... else self.convert(value)

    @abstractmethod
    def agrees(self, value: Any, expected: Any) -> bool:
        """Return whether two converted values are equal, within the tolerance."""

    @abstractmethod
    def fault(self, value: Any, expected: Any) -> str | None:
        """Describe what is wrong with a converted value without comparing its numbers."""

    def altered(self, value: Any) -> list[Any]:
        """Return wrong values that resemble a converted one, for verification."""
        return []


class Array(Spec):
    """A NumPy array, or whatever converts to one: a list, a tensor, a number.

    An array of integers (in the author's solution) must be equal, one of floats close.

    Args:
        name: What the value is, in words that follow "Your", such as "new state".
        rtol: Relative tolerance of floats.
        atol: Absolute tolerance of floats; by default 1e-5 of the largest expected value.
        dtype: What the dtype must be, as in "int8", or its kind: "integer", "floating", "bool". By
            default any numeric dtype, but booleans where the author's solution has booleans.
    """

    def __init__(
        self,
        name: str = "result",
        *,
        rtol: float = RELATIVE_TOLERANCE,
        atol: float | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name)
        self._rtol = rtol
        self._atol = atol
        self._dtype = dtype

    def convert(self, value: Any) -> np.ndarray:
        """Return `value` as an array."""
        reason = _unusable(value)
        if reason is None:
            try:
                array = np.asarray(value)
            except Exception as error:  # whatever a foreign object raises in its conversion
                ragged = isinstance(value, list | tuple)
                reason = "rows of different lengths" if ragged else f"{type(error).__name__}"
            else:
                if array.dtype.kind == "V":  # bfloat16, which NumPy does not know
                    with suppress(TypeError, ValueError):
                        array = array.astype(np.float32)
                if array.dtype.kind in "biufc":
                    return array
                reason = f"elements of dtype {array.dtype}" if array.ndim else None
        raise NotYet(
            f"Your {self.name} cannot be converted to {self._article}: it is an object of type "
            f"`{type(value).__name__}`" + (f" with {reason}." if reason else ".")
        )

    _article = "an array of numbers"

    def read(self, value: Any, shape: tuple[int, ...] | None = None) -> Any:
        """Convert what an answer returned, in a check that is code.

        Args:
            value: What the answer returned.
            shape: The shape that it must have.

        Raises:
            NotYet: It cannot be converted, has another shape or dtype, or is not finite.
        """
        array = self.convert(value)
        expected = np.zeros(array.shape if shape is None else shape, array.dtype)
        if message := self.fault(array, expected):
            raise NotYet(message)
        return array

    def agrees(self, value: np.ndarray, expected: np.ndarray) -> bool:
        """Return whether both have the same shape and close values; nan equals nan."""
        if value.shape != expected.shape:
            return False
        if expected.dtype.kind in "biu":
            return _equal_integers(value, expected)
        finite = np.abs(expected[np.isfinite(expected)])
        largest = finite.max() if finite.size else 0.0
        atol = 1e-5 * largest if self._atol is None else self._atol
        return bool(np.allclose(value, expected, self._rtol, atol, equal_nan=True))

    def fault(self, value: np.ndarray, expected: np.ndarray) -> str | None:
        """Describe a wrong shape or dtype, or values that are not finite."""
        if value.shape != expected.shape:
            return self._shape_fault(value.shape, expected.shape)
        required = self._dtype or ("bool" if expected.dtype.kind == "b" else "number")
        if not np.issubdtype(value.dtype, _DTYPES.get(required, required)):
            return f"Your {self.name} has the dtype {value.dtype}; expected {_in_words(required)}."
        if value.dtype.kind == "c" and expected.dtype.kind != "c":
            return f"Your {self.name} has the dtype {value.dtype}; expected real numbers."
        strange = value[~np.isfinite(value)]
        if strange.size and np.isfinite(expected).all():
            return self._not_finite(strange)
        return None

    def altered(self, value: np.ndarray) -> list[Any]:
        """Return the array with other numbers in it."""
        if value.dtype.kind == "b":
            return [~value]
        if value.dtype.kind in "iu":
            return [value + value.dtype.type(1)]
        return [1.37 * value + 0.11]

    def _shape_fault(self, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
        return f"Your {self.name} has the shape {shape}; expected {expected}."

    def _not_finite(self, values: np.ndarray) -> str:
        return f"Your {self.name} contains {values[0]}, which is not a finite number."


class Number(Array):
    """A number: Python's, NumPy's, or an array or tensor with no axes.

    An integer (in the author's solution) must be equal, a float close.

    Args:
        name: What the value is, in words that follow "Your", such as "loss".
        rtol: Relative tolerance of a float.
        atol: Absolute tolerance of a float; by default 1e-5 of the expected value.
    """

    _article = "a number"

    def __init__(
        self,
        name: str = "result",
        *,
        rtol: float = RELATIVE_TOLERANCE,
        atol: float | None = None,
    ) -> None:
        super().__init__(name, rtol=rtol, atol=atol)

    def read(self, value: Any, shape: tuple[int, ...] | None = ()) -> Any:
        """Convert what an answer returned to a Python number, in a check that is code.

        Raises:
            NotYet: It is not a number, or not finite.
        """
        return super().read(value, shape).item()

    def fault(self, value: np.ndarray, expected: np.ndarray) -> str | None:
        """Describe an array, a wrong dtype, or a number that is not finite."""
        if value.shape:
            return self._shape_fault(value.shape, ())
        return super().fault(value, expected)

    def convert(self, value: Any) -> np.ndarray:
        """Return `value` as an array, which should have no axes."""
        if not hasattr(value, "__array__") and hasattr(value, "__float__"):  # Fraction, Decimal
            value = value if isinstance(value, int | float | complex) else float(value)
        return super().convert(value)

    def _shape_fault(self, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
        return f"Your {self.name} is an array of shape {shape}; return one number."

    def _not_finite(self, values: np.ndarray) -> str:
        return f"Your {self.name} is {values.item()}, which is not a finite number."


class Integer(Number):
    """A whole number, compared exactly; also 8.0 for 8.

    Args:
        name: What the value is, in words that follow "Your", such as "batch size".
    """

    def __init__(self, name: str = "result") -> None:
        super().__init__(name)

    def agrees(self, value: np.ndarray, expected: np.ndarray) -> bool:
        """Return whether both are the same number."""
        return value.shape == expected.shape and _equal_integers(value, expected)

    def fault(self, value: np.ndarray, expected: np.ndarray) -> str | None:
        """Describe an array, or a number that is not whole."""
        if message := super().fault(value, expected):
            return message
        if not math.isclose(value.item(), round(value.item()), abs_tol=0):
            return f"Your {self.name} is {value.item():.4g}; return a whole number."
        return None


class Equal(Spec):
    """Any value that is compared with `==`: a dict, a set, a list of words.

    Args:
        name: What the value is, in words that follow "Your".
    """

    def convert(self, value: Any) -> Any:
        """Return `value` as it is."""
        return value

    def agrees(self, value: Any, expected: Any) -> bool:
        """Return whether both are equal."""
        return bool(np.all(value == expected))

    def fault(self, value: Any, expected: Any) -> str | None:
        """Describe nothing: any type may be equal to the expected value."""
        return None


class Text(Equal):
    """A string, compared exactly.

    Args:
        name: What the value is, in words that follow "Your", such as "label".
    """

    def convert(self, value: Any) -> str:
        """Return `value`, which must be a string."""
        require(
            isinstance(value, str),
            f"Your {self.name} is an object of type `{type(value).__name__}`; return a string.",
        )
        return str(value)

    def altered(self, value: str) -> list[str]:
        """Return the string with another character."""
        return [f"{value}?"]


class Several(Spec):
    """A fixed number of values; written as a tuple of specs.

    The answer may return anything that unpacks: a tuple, a list, an array, a generator.
    """

    def __init__(self, parts: Sequence[Spec]) -> None:
        super().__init__(_listed([part.name for part in parts]))
        self.parts = tuple(parts)

    def convert(self, value: Any) -> list[Any]:
        """Return a list of the converted parts."""
        values = self._unpack(value)
        return [spec.convert(part) for spec, part in zip(self.parts, values, strict=True)]

    def convert_open(self, value: Any) -> Any:
        """Convert what a mistake returned; also a part may be `...`."""
        if value is ...:
            return value
        values = self._unpack(value)
        return [spec.convert_open(part) for spec, part in zip(self.parts, values, strict=True)]

    def _unpack(self, value: Any) -> list[Any]:
        expected = f"return {_count(len(self.parts), 'value')}: {self.name}."
        values = _unpack(value, expected)
        if len(values) != len(self.parts):
            rows = ""
            if shape := tuple(getattr(value, "shape", ())):
                rows = f" One array of shape {shape} counts as its {_count(shape[0], 'row')}."
            raise NotYet(f"You return {_count(len(values), 'value')}; {expected}{rows}")
        return values

    def agrees(self, value: list[Any], expected: list[Any]) -> bool:
        """Return whether all parts agree; `...` agrees with anything."""
        return all(
            other is ... or spec.agrees(part, other)
            for spec, part, other in zip(self.parts, value, expected, strict=True)
        )

    def fault(self, value: list[Any], expected: list[Any]) -> str | None:
        """Describe the first part with a fault."""
        faults = (
            spec.fault(part, other)
            for spec, part, other in zip(self.parts, value, expected, strict=True)
        )
        return next(filter(None, faults), None)

    def altered(self, value: list[Any]) -> list[Any]:
        """Return the values with one of them altered, for each of them."""
        return [
            [*value[:number], part, *value[number + 1 :]]
            for number, spec in enumerate(self.parts)
            for part in spec.altered(value[number])
        ]


class ListOf(Spec):
    """As many values of one kind as the author's solution returns; written as `[spec]`."""

    def __init__(self, item: Spec) -> None:
        super().__init__(item.name)
        self._item = item

    def convert(self, value: Any) -> list[Any]:
        """Return a list of the converted items."""
        values = _unpack(value, f"return a list with one {self.name} per entry.")
        return [self._item.convert(item) for item in values]

    def agrees(self, value: list[Any], expected: list[Any]) -> bool:
        """Return whether both have as many items, and all agree."""
        return len(value) == len(expected) and all(map(self._item.agrees, value, expected))

    def fault(self, value: list[Any], expected: list[Any]) -> str | None:
        """Describe a wrong number of items, or the first item with a fault."""
        if len(value) != len(expected):
            entries = _count(len(value), "entry")
            return f"You return {entries} instead of {len(expected)}, one {self._item.name} each."
        return next(filter(None, map(self._item.fault, value, expected)), None)

    def altered(self, value: list[Any]) -> list[Any]:
        """Return the list with its last item altered."""
        return [[*value[:-1], item] for item in self._item.altered(value[-1])] if value else []


def as_spec(returns: Any) -> Spec:
    """Return the spec that an author wrote: a spec, a tuple of specs, or a list of one.

    Raises:
        Invalid: It is none of these.
    """
    if isinstance(returns, Spec):
        return returns
    if isinstance(returns, tuple) and returns:
        return Several([as_spec(part) for part in returns])
    if isinstance(returns, list) and len(returns) == 1:
        return ListOf(as_spec(returns[0]))
    raise Invalid(
        "`returns=` is an Array, a Number, an Integer, a Text or an Equal, such as "
        '`Array("new state")`; a tuple of them; or a list of one of them.'
    )


_DTYPES: Mapping[str, Any] = {
    "number": np.generic,
    "integer": np.integer,
    "floating": np.floating,
    "bool": np.bool_,
}


def _equal_integers(value: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether both are equal, up to the rounding of integers that are computed as floats."""
    if value.dtype.kind != "f":
        return bool(np.array_equal(value, expected))
    return bool(np.allclose(value, expected, rtol=4 * np.finfo(value.dtype).eps, atol=0))


def _in_words(dtype: str) -> str:
    words = {"integer": "integers", "floating": "floats", "bool": "True and False"}
    return words.get(dtype, dtype)


def _unusable(value: Any) -> str | None:
    """Return why `value` is not converted, though NumPy would; "" where its type says it all."""
    if isinstance(value, str | bytes | Mapping | set | frozenset) or callable(value):
        return ""
    if isinstance(value, list | tuple) and any(item is None for item in value):
        return "None in it"
    return None


def _unpack(value: Any, expected: str) -> list[Any]:
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | set):
        with suppress(TypeError):  # an array without axes
            return list(value)
    raise NotYet(f"You return an object of type `{type(value).__name__}`; {expected}")


def _count(number: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number} {noun if number == 1 else plural}"


def _listed(names: Sequence[str]) -> str:
    """Join names as in "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
