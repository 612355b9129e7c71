# The course in a container: for one learner, behind a JupyterHub, or for notebooks in batch.
# `make image` builds it; for GPUs, with NVIDIA's image of the CUDA and cuDNN that TensorFlow needs:
#   make image BASE=nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04 PINS=image-gpu.txt
ARG BASE=python:3.12-slim-bookworm
# hadolint ignore=DL3006
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# A base without Python gets the distribution's.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini \
 && if ! command -v python3; then apt-get install --yes --no-install-recommends python3-venv; fi \
 && rm -rf /var/lib/apt/lists/*

# The packages are pinned, with their hashes. They change less often than dltlab, so they are a layer of their own.
ARG PINS=image-cpu.txt
COPY dist/release/${PINS} /tmp/pins.txt
RUN python3 -m venv /opt/dltlab \
 && /opt/dltlab/bin/pip install --no-cache-dir --require-hashes --requirement /tmp/pins.txt \
 && rm /tmp/pins.txt

COPY dist/release/*.whl /tmp/wheel/
RUN /opt/dltlab/bin/pip install --no-cache-dir --no-deps --no-index /tmp/wheel/*.whl \
 && rm -r /tmp/wheel

COPY --chmod=755 deploy/entrypoint.sh /usr/local/bin/dltlab-entrypoint
RUN useradd --create-home --non-unique --uid 1000 --shell /bin/bash learner
USER 1000
WORKDIR /home/learner
ENV PATH=/opt/dltlab/bin:$PATH
EXPOSE 8888

# Every Jupyter server that runs here answers; where none runs, as in batch, there is nothing to ask.
HEALTHCHECK --start-period=60s CMD ["python", "-c", "\
from urllib.request import urlopen; from jupyter_server.serverapp import list_running_servers; \
[urlopen('http://127.0.0.1:%d%sapi' % (s['port'], s['base_url']), timeout=5) for s in list_running_servers()]"]

ENTRYPOINT ["tini", "--", "dltlab-entrypoint"]
CMD ["lab", "--no-browser", "--host", "0.0.0.0", "--port", "8888"]
