"""The configuration of JupyterHub for a workshop."""

import os
import sys
from pathlib import Path
from typing import Any

import bcrypt

from dltlab.course import Course
from dltlab.paths import COLD_KERNELS, LABS, ROOM
from dltlab.workshop.authenticator import CardAuthenticator
from dltlab.workshop.connection import BOARD, Connection, read_connection
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.limits import LearnerLimits
from dltlab.workshop.roster import read_members
from dltlab.workshop.settings import Settings, read_settings
from dltlab.workshop.spawner import LEARNER_SERVER, AccountSpawner
from dltlab.workshop.tls import certificate_files

SUPERVISOR = "dltlab"  # the Hub's name for this service
RECORDED = (
    "Your name, e-mail address and group as on the roster, and when your server was last active.",
    "Each answer you have checked: the exercise, the outcome, what the check said, and the time.",
    "The notebooks that you hand in, and a copy of the one you work on for the instructor's view.",
    "When you ask for help.",
    "All of it stays on this machine. Ask the instructor to erase it.",
)
_KEPT = ("LANG", "PYTHONPATH", COLD_KERNELS)  # of this process' environment
_POLL_SECONDS = 2  # how soon a server or a proxy that has ended is noticed
_START_SECONDS = 180  # a whole class may start at once
_CHEAP = 4  # rounds of bcrypt: the token is long and random, and every request is checked


def write_hub_config(folder: WorkshopFolder) -> Path:
    """Write the file that JupyterHub reads, and return its path."""
    path = folder.state / "jupyterhub_config.py"
    own = folder.path / "jupyterhub_config.py"  # of the instructor, if there is one
    path.write_text(
        "from pathlib import Path\n\n"
        "from dltlab.workshop.folder import WorkshopFolder\n"
        "from dltlab.workshop.hub_config import configure\n\n"
        f"configure(get_config(), WorkshopFolder.find(Path({str(folder.roster_file)!r})))\n"
        + (f"load_subconfig({str(own)!r})\n" if own.is_file() else "")
    )
    return path


def configure(config: Any, folder: WorkshopFolder) -> None:
    """Set the options of JupyterHub."""
    settings, connection = read_settings(folder).content, read_connection(folder)
    hub = config.JupyterHub
    hub.bind_url = f"{settings.scheme}://{settings.address.host}:{settings.address.port}/"
    hub.hub_bind_url = f"http://127.0.0.1:{connection.hub_port}"
    hub.db_url = f"sqlite:///{folder.hub_database}"
    hub.cookie_secret_file = str(folder.keys / "cookie.secret")
    hub.cleanup_servers = hub.cleanup_proxy = False  # they go on when the Hub is started anew
    hub.implicit_spawn_seconds = 1
    hub.concurrent_spawn_limit = 0
    # Requests to start or stop a server are answered at once; others wait on a page with progress.
    hub.tornado_settings = {"slow_spawn_timeout": 0, "slow_stop_timeout": 0}
    hub.template_paths = [str(Path(__file__).with_name("templates"))]
    hub.template_vars = {"workshop_title": settings.title, "recorded": RECORDED}
    _configure_proxy(config, folder, settings, connection)
    _configure_sign_in(config, folder, settings)
    _configure_servers(config, folder, settings)
    _configure_services(config, folder, settings, connection)


def learner_environment(folder: WorkshopFolder) -> dict[str, str]:
    """Return the variables that learners' servers and the room's zygote have in common."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = [str(Path(sys.executable).parent), *os.defpath.split(os.pathsep)]
    return {
        **kept,
        "PATH": os.pathsep.join([*path, "/usr/local/bin"]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONNOUSERSITE": "1",
        ROOM: str(folder.runtime),
        **Course.find().environment,
    }


def _configure_proxy(
    config: Any, folder: WorkshopFolder, settings: Settings, connection: Connection
) -> None:
    config.Proxy.should_start = False
    address = f"http://127.0.0.1:{connection.proxy_port}"
    files = certificate_files(folder, settings.tls, settings.host)
    if files:
        config.JupyterHub.ssl_cert, config.JupyterHub.ssl_key = map(str, files)
    if settings.servers.proxy == "configurable-http-proxy":
        config.JupyterHub.last_activity_interval = _POLL_SECONDS  # one that is new has no routes
        config.ConfigurableHTTPProxy.api_url = address
        config.ConfigurableHTTPProxy.auth_token = connection.proxy_token
        return
    token = connection.proxy_token.encode()
    config.JupyterHub.proxy_class = "traefik_file"
    proxy = config.TraefikFileProviderProxy
    proxy.dynamic_config_file = str(folder.state / "routes.toml")
    proxy.traefik_api_url = address
    proxy.traefik_api_username = SUPERVISOR
    proxy.traefik_api_password = connection.proxy_token
    proxy.traefik_api_hashed_password = bcrypt.hashpw(token, bcrypt.gensalt(_CHEAP)).decode()


def _configure_sign_in(config: Any, folder: WorkshopFolder, settings: Settings) -> None:
    if settings.sign_in.own_accounts:
        config.Authenticator.allow_all = False
        config.Authenticator.allow_existing_users = True  # the supervisor adds those of the roster
        config.Authenticator.update(settings.sign_in.options)
        config.JupyterHub.authenticator_class = settings.sign_in.authenticator
        return
    config.Authenticator.allow_all = True
    config.Authenticator.update(settings.sign_in.options)
    config.JupyterHub.authenticator_class = CardAuthenticator
    config.CardAuthenticator.workshop = str(folder.roster_file)


def _configure_servers(config: Any, folder: WorkshopFolder, settings: Settings) -> None:
    spawner = config.Spawner
    spawner.default_url = "/lab"
    spawner.poll_interval = _POLL_SECONDS
    spawner.start_timeout = spawner.http_timeout = _START_SECONDS
    spawner.args = [
        "--KernelManager.transport=ipc",  # other accounts cannot reach it, and ports cannot clash
        "--ServerApp.answer_yes=True",  # stop at SIGINT, without a question
        "--log-level=WARN",
    ]
    spawner.update(settings.servers.options)
    if settings.servers.spawner != "accounts":
        config.JupyterHub.spawner_class = settings.servers.spawner
        spawner.mem_limit = f"{settings.limits.memory_gb}G"
        return
    config.JupyterHub.spawner_class = AccountSpawner
    spawner.cmd = [*LEARNER_SERVER, settings.profile]
    spawner.env_keep = []
    spawner.environment = learner_environment(folder) | {
        LABS: ",".join(settings.lab_names(Course.find())),
        "JUPYTER_DEFAULT_PROVISIONER_NAME": "dltlab-warm",
    }
    if os.geteuid() == 0:
        config.AccountSpawner.limits = LearnerLimits(settings.limits, folder.runtime.name)
        config.AccountSpawner.room = str(folder.runtime)
        config.AccountSpawner.zygote = str(folder.server_socket)
    else:
        config.AccountSpawner.homes = str(folder.state / "homes")


def _configure_services(
    config: Any, folder: WorkshopFolder, settings: Settings, connection: Connection
) -> None:
    instructors = [member.account for member in read_members(folder) if member.instructor]
    hub = config.JupyterHub
    hub.services = [
        {"name": SUPERVISOR, "api_token": connection.hub_token, "display": False},
        {
            "name": BOARD,
            "api_token": connection.board_token,
            "oauth_redirect_uri": f"{settings.board_url}oauth_callback",
            "oauth_no_confirm": True,
            "display": False,
        },
    ]
    hub.load_groups = {"instructors": {"users": instructors}}
    hub.load_roles = [
        {
            "name": "supervisor",
            "services": [SUPERVISOR],
            "scopes": ["admin:users", "admin:servers", "read:hub"],
        },
        {
            "name": "instructor",
            "groups": ["instructors"],
            # Not to open a learner's server: what runs there would run in the instructor's name.
            "scopes": [f"access:services!service={BOARD}", "admin-ui", "list:users", "servers"],
        },
    ]

    def first_page(handler: Any) -> str:
        user = handler.current_user
        return settings.board_url if user and user.name in instructors else ""

    hub.default_url = first_page
