import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from tornado.web import HTTPError
from traitlets.config import Config

from dltlab.workshop.codes import CodeBook
from dltlab.workshop.kubernetes import chart_values, write_values
from dltlab.workshop.settings import Limits, Servers, Settings, SignIn

# The chart's schema and its own values; their source is named in the file.
CHART = json.loads(Path(__file__).with_name("zero_to_jupyterhub.json").read_text())
CODES: dict[str, Any] = {"key": "00", "codes": {"learner01": "ab"}}


def merged(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return values as Helm merges them into the chart's own."""
    result = dict(base)
    for key, value in values.items():
        is_table = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if is_table else value
    return result


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(labs=["1"], limits=Limits(memory_gb=2.5, disk_gb=3.0, idle_minutes=0)),
        Settings(servers=Servers(options={"image": "registry/dltlab"})),
        Settings(sign_in=SignIn(authenticator="github", options={"admin_users": ["ada"]})),
    ],
)
def test_the_values_fit_the_charts_schema(settings):
    jsonschema.validate(merged(CHART["values"], chart_values(settings, CODES)), CHART["schema"])


def test_the_schema_refuses_what_the_chart_does_not_know():
    values = chart_values(Settings(), CODES) | {"hubb": {}}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(merged(CHART["values"], values), CHART["schema"])


def test_the_script_in_the_values_signs_in_with_the_codes_of_the_cards(folder, tmp_path):
    path, cards = write_values(folder)
    assert cards == folder.path / "cards.html"
    assert path.stat().st_mode & 0o777 == 0o600
    hub = yaml.safe_load(path.read_text())["hub"]
    codes = tmp_path / "codes.json"
    codes.write_text(hub["extraFiles"]["codes"]["stringData"])
    code = CodeBook(folder).renew(["learner01"])["learner01"]
    codes.write_text(json.dumps(CodeBook(folder).hashes(["learner01", "learner02"])))
    script = hub["extraConfig"]["cards"].replace("/usr/local/etc/dltlab/codes.json", str(codes))
    config = Config()
    exec(script, {"c": config})  # as the chart's Hub does
    authenticator = config.JupyterHub.authenticator_class()
    handler = SimpleNamespace(request=SimpleNamespace(remote_ip="10.0.0.1", headers={}))

    def sign_in(typed: str) -> Any:
        return asyncio.run(authenticator.authenticate(handler, {"password": typed}))

    assert sign_in(code.upper()) == {"name": "learner01", "admin": False}
    statuses = []
    for _ in range(31):
        with pytest.raises(HTTPError) as error:
            sign_in("x")
        statuses.append(error.value.status_code)
    assert (statuses[0], statuses[-1]) == (403, 429)
    assert sign_in(code)["name"] == "learner01"


def test_values_can_be_written_again(folder):
    first = write_values(folder)[0].read_text()

    second, cards = write_values(folder)

    assert second.read_text() == first
    assert cards is None
