"""What libraries remember of the home folder in which they were imported."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from traitlets import HasTraits, List, Unicode

from dltlab.kernels.home import HomeVariables
from tests.room_fixtures import FOLDER, open_room

ADA, BOB = "learner01", "learner02"
OLD, NEW = "/run/room/zygote", "/home/ada"
# Whatever contains the zygote's home, anywhere in the kernel. Its own environment is not here.
FIND = f"""
import gc, json
mark = "{FOLDER}/zy" + "gote"

def texts(value):
    return (str(item) for item in value if isinstance(item, str) or hasattr(item, "__fspath__"))

found = []
for value in gc.get_objects():
    if type(value) is dict and "mark" not in value:
        found += [text for text in texts(list(value.values())) if mark in text]
    elif type(value) in (list, tuple, set):
        found += [text for text in texts(value) if mark in text]
print(json.dumps(found))
"""
RANDOM = """
import json, random, tempfile, uuid
import keras, numpy as np, tensorflow as tf
print(json.dumps([
    random.random(), np.random.rand(), np.random.default_rng().random(), str(uuid.uuid4()),
    float(tf.random.uniform(())), float(keras.random.uniform(())),
    next(tempfile._get_candidate_names()),
]))
"""


@pytest.fixture
def remembered(monkeypatch) -> dict[str, Any]:
    """The variables of a module that remembers a home folder."""
    module = ModuleType("remembering")
    monkeypatch.setitem(sys.modules, "remembering", module)
    vars(module).update(
        text=f"{OLD}/.cache",
        path=Path(OLD, "file"),
        items=["a", f"{OLD}/b", 3],
        pair=(OLD, None),
        table={"x": f"{OLD}/x", "y": 1},
        other="/home/bob",
    )
    return vars(module)


def test_variables_of_modules_get_another_home(remembered):
    items, table = remembered["items"], remembered["table"]

    HomeVariables(OLD).replace(NEW)

    assert remembered["text"] == "/home/ada/.cache"
    assert remembered["path"] == Path("/home/ada/file")
    assert remembered["items"] is items == ["a", "/home/ada/b", 3]
    assert remembered["pair"] == ("/home/ada", None)
    assert remembered["table"] is table == {"x": "/home/ada/x", "y": 1}
    assert remembered["other"] == "/home/bob"


def test_defaults_of_traits_get_another_home():
    class Remembering(HasTraits):
        text = Unicode(f"{OLD}/text")
        items = List([f"{OLD}/b"])

    HomeVariables(OLD).replace(NEW)

    class Later(Remembering):
        pass

    for kind in (Remembering, Later):
        assert kind().text == "/home/ada/text"
        assert kind.text.default_value == "/home/ada/text"
        assert kind().items == ["/home/ada/b"]


@pytest.fixture(scope="module")
def learners():
    """The kernels of two learners of a room whose zygote has imported the real libraries."""
    with open_room({}) as room:
        room.start_zygote()
        yield [room.sign_in(ADA), room.sign_in(BOB)]


def test_no_library_of_a_kernel_remembers_the_home_of_the_zygote(learners):
    assert json.loads(learners[0].run(FIND)) == []


def test_libraries_use_the_home_of_the_learner(learners):
    code = "import keras, matplotlib, site\nprint(matplotlib.get_cachedir(), site.USER_BASE)"

    assert learners[0].run(code) == f"/home/{ADA}/.cache/matplotlib /home/{ADA}/.local"


def test_two_learners_draw_different_random_numbers(learners):
    one, other = (json.loads(learner.run(RANDOM)) for learner in learners)

    assert not set(one) & set(other)
