import os
import subprocess
import sys
import textwrap

from dltlab.course import Course


def test_servers_find_imported_what_they_need(tmp_path):
    code = """
        import gc, sys
        from pathlib import Path
        from dltlab.workshop import learner_server, server_zygote

        def become_forks(path):
            assert path == Path("servers.socket")
            assert not gc.isenabled()
            needed = {"jupyterlab.labapp", "jupyterhub.singleuser.extension", "dltlab.classroom",
                      "jupyter_server_proxy", "jupyter_server_terminals.terminalmanager"}
            assert needed <= {*sys.modules}, needed - {*sys.modules}
            assert "nbgrader.server_extensions.formgrader" not in sys.modules  # it is turned off
            return ["workshop", "--log-level=WARN"]

        server_zygote.become_forks = become_forks
        learner_server.main = lambda: print(*sys.argv[1:], gc.isenabled())
        sys.argv[1:] = ["servers.socket"]
        server_zygote.main()
    """
    environment = {**os.environ, "HOME": str(tmp_path), **Course.find().environment}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("workshop --log-level=WARN True\n", "")
