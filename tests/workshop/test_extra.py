import importlib.util

import pytest

from dltlab.errors import Unavailable
from dltlab.workshop.extra import require_extra


def test_a_missing_package_is_named_with_the_fix(monkeypatch):
    require_extra()
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "segno" else find_spec(name)
    )

    with pytest.raises(Unavailable, match=r"segno is not installed.*pip install 'dltlab"):
        require_extra()
