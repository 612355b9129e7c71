"""Warn when a cell sets a variable that the libraries of a warm kernel have read already."""

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from dltlab.kernels.key import is_read_on_import


class LateVariables:
    """Warns once, below the cell, when a cell sets such a variable.

    Register `check` for IPython's event `post_run_cell`.

    Attributes:
        shell: IPython's shell.
    """

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self._at_start = _variables()
        self._named: set[str] = set()

    def check(self, result: Any) -> None:
        """Warn if a variable has changed that a cell names; libraries may set others themselves."""
        self._named.update(filter(is_read_on_import, re.findall(r"\w+", result.info.raw_cell)))
        now = _variables()
        late = [name for name in sorted(self._named) if now.get(name) != self._at_start.get(name)]
        if late:
            self.shell.events.unregister("post_run_cell", self.check)
            names = " and ".join(late) if len(late) < 3 else ", ".join(late)
            print(  # noqa: T201
                f"{names} may have no effect: this is a warm kernel, whose libraries were imported "
                "before it started, and they read such variables on import. Set them before you "
                "start JupyterLab, or start it with cold kernels: dltlab lab --cold",
                file=sys.stderr,
            )


def _variables() -> Mapping[str, str]:
    variables = {name: value for name, value in os.environ.items() if is_read_on_import(name)}
    return {"KERAS_BACKEND": "tensorflow", **variables}  # Keras' default
