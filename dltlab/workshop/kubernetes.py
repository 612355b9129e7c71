"""A workshop on Kubernetes: values for the chart of Zero to JupyterHub."""

import inspect
import json
from pathlib import Path
from string import Template
from typing import Any

import yaml

from dltlab import __version__
from dltlab.course import Course
from dltlab.files import write_atomically
from dltlab.paths import LABS
from dltlab.workshop.codes import SIGNS, CodeBook, Throttle, client_address
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.hub_config import RECORDED
from dltlab.workshop.members import make_cards
from dltlab.workshop.roster import read_members
from dltlab.workshop.settings import Settings, read_settings

_TEMPLATES = Path(__file__).with_name("templates")
_MOUNT = "/usr/local/etc/dltlab"  # in the Hub's container
_CODES_FILE = f"{_MOUNT}/codes.json"
_COMMENT = """# Values for the chart of Zero to JupyterHub: https://z2jh.jupyter.org
#
# Build the image in a clone, push it, and set singleuser.image.name:
#   make release image
#   docker tag dltlab REGISTRY/dltlab:{version}
#   docker push REGISTRY/dltlab:{version}
# Then install the chart:
#   helm upgrade --install workshop jupyterhub --values values.yaml \\
#     --repo https://hub.jupyter.org/helm-chart/
#
# The codes in this file are keyed hashes, and the key is here, too: keep it secret. Write it anew
# after each change of the roster, the settings or the cards.
"""


class _Dumper(yaml.SafeDumper):
    """Writes scripts and templates line by line."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def write_values(folder: WorkshopFolder) -> tuple[Path, Path | None]:
    """Write the values of the chart for a workshop.

    Returns:
        The file, and the file with the cards for new codes, if there are any.

    Raises:
        LabError: The settings or the roster are not valid.
    """
    settings = read_settings(folder).content
    cards = make_cards(folder, [])
    members = [member.account for member in read_members(folder) if member.enrolled]
    values = chart_values(settings, CodeBook(folder).hashes(members))
    path = folder.path / "values.yaml"
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    path.touch(0o600)
    write_atomically(path, _COMMENT.format(version=__version__) + text)
    return path, cards


def chart_values(settings: Settings, codes: dict[str, Any]) -> dict[str, Any]:
    """Return the values that differ from the chart's own.

    Args:
        settings: Of the workshop.
        codes: What `CodeBook.hashes` returns.
    """
    limits = settings.limits
    return {
        "hub": _hub_values(settings, codes),
        "singleuser": {
            "image": {"name": settings.servers.options.get("image", "dltlab"), "tag": __version__},
            "cmd": ["python", "-m", "dltlab.workshop.learner_server", settings.profile],
            "defaultUrl": "/lab",
            "extraEnv": {
                LABS: ",".join(settings.lab_names(Course.find())),
                "JUPYTER_DEFAULT_PROVISIONER_NAME": "dltlab-warm",
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            "memory": {"limit": f"{limits.memory_gb}G", "guarantee": "1G"},
            "cpu": {"guarantee": 0.5},
            "storage": {"capacity": f"{limits.disk_gb:g}Gi"},
        },
        "cull": {"enabled": limits.idle_minutes > 0, "timeout": max(60 * limits.idle_minutes, 60)},
        # Pods of this number are kept free, so that nobody waits for a machine to start.
        "scheduling": {
            "userPlaceholder": {"enabled": True, "replicas": len(codes["codes"])},
            "podPriority": {"enabled": True},
        },
    }


def _hub_values(settings: Settings, codes: dict[str, Any]) -> dict[str, Any]:
    if settings.sign_in.authenticator != "cards":
        return {
            "config": {
                "JupyterHub": {"authenticator_class": settings.sign_in.authenticator},
                "Authenticator": {"allow_all": True, **settings.sign_in.options},
            }
        }
    throttling = "\n\n\n".join(
        inspect.getsource(part).strip() for part in (Throttle, client_address)
    )
    script = Template((_TEMPLATES / "kubernetes_sign_in.py.txt").read_text()).substitute(
        throttling=throttling, codes_file=_CODES_FILE, signs=SIGNS
    )
    login = (_TEMPLATES / "login.html").read_text()
    return {
        "extraConfig": {"cards": script},
        "extraFiles": {
            "codes": {"mountPath": _CODES_FILE, "stringData": json.dumps(codes)},
            "login": {"mountPath": f"{_MOUNT}/templates/login.html", "stringData": login},
        },
        "templatePaths": [f"{_MOUNT}/templates"],
        "templateVars": {
            "workshop_title": settings.title,
            "recorded": [RECORDED[0], "Your work, on a disk of your own in this cluster."],
        },
    }
