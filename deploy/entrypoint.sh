#!/bin/sh
# `docker run IMAGE run 01` is `dltlab run 01`; what a JupyterHub starts, and a shell, runs as it is.
case "${1:-}" in
  python | python3 | sh | bash | jupyter | jupyter-* | jupyterhub-*) exec "$@" ;;
esac
exec dltlab "$@"
