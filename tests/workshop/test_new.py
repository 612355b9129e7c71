import re
import tomllib

import pytest

from dltlab.errors import Invalid
from dltlab.workshop.new import new_workshop
from dltlab.workshop.roster import read_roster
from dltlab.workshop.settings import Settings, read_settings


def test_a_new_workshop_is_valid_and_has_the_defaults(tmp_path):
    folder = new_workshop(tmp_path / "class")

    assert read_settings(folder).content == Settings()
    assert len(read_roster(folder.roster_file)) == 3


def test_every_setting_is_in_the_comments_with_its_default(tmp_path):
    text = new_workshop(tmp_path / "class").settings_file.read_text()
    shown = tomllib.loads(re.sub(r"(?m)^# (?=\w+ = )", "", text))

    defaults = Settings().model_dump()
    for name, value in defaults.items():
        if isinstance(value, dict) and value:
            assert set(shown[name]) == set(value)
            for key, default in value.items():
                assert default is None or shown[name][key] == default
        elif value not in (None, {}):
            assert shown[name] == value
    assert set(shown) == set(defaults)
    Settings.model_validate({**shown, "tls": {}})


def test_an_existing_workshop_is_not_overwritten(tmp_path):
    new_workshop(tmp_path)

    with pytest.raises(Invalid, match="exists already; choose another folder"):
        new_workshop(tmp_path)
