# Hotsite with Debian's PostgreSQL, etcd and HAProxy. Every process of a place runs from this one image (docs/docker.md):
#
#   docker build --tag hotsite:local .
#
# Where packages come from is the builder's affair: apt as the base image is set up, pip by its own environment
# variables (--build-arg PIP_INDEX_URL=…), or by wheels brought along in a folder `wheels/` beside this file
# (--build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/source).

ARG BASE=debian:bookworm-slim

# --- Hotsite and its libraries, in a virtual environment -----------------------------------------------------
FROM ${BASE} AS installed
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_CERT
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/*

# The libraries before the code: they change less often. A folder among the sources is copied by its contents.
COPY pyproject.toml requirements.lock configs/docker/runtime_requirements.py wheels* /source/
RUN python3 -m venv /opt/hotsite \
 && python3 /source/runtime_requirements.py /source/pyproject.toml /source/requirements.lock > /tmp/requirements.txt \
 && /opt/hotsite/bin/pip install --require-hashes --requirement /tmp/requirements.txt

COPY README.md LICENSE /source/
COPY replication /source/replication
COPY sitecontrol /source/sitecontrol
COPY dispatcher /source/dispatcher
COPY healthcheck /source/healthcheck
# Nobody asks in which town a number is: the names of towns are a third of the libraries.
RUN /opt/hotsite/bin/pip install --no-index --no-deps --no-build-isolation /source \
 && /opt/hotsite/bin/pip uninstall --quiet --yes setuptools pip \
 && rm -r /opt/hotsite/lib/python3*/site-packages/phonenumbers/geodata

# --- what runs ------------------------------------------------------------------------------------------------
FROM ${BASE}

# Debian would make a cluster of its own: the agent makes ours. LLVM is a third of the image and serves `jit`, which
# is always off (replication/configuration.py).
RUN mkdir -p /etc/postgresql-common \
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      ca-certificates etcd-client etcd-server haproxy postgresql-15 python3 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /usr/lib/*/libLLVM-*.so* /usr/lib/postgresql/15/lib/*llvm* \
 && useradd --system --uid 10001 --user-group --home-dir /var/lib/hotsite --shell /usr/sbin/nologin hotsite \
 && install --directory --owner hotsite --group hotsite --mode 700 /var/lib/hotsite /var/lib/etcd

COPY --from=installed /opt/hotsite /opt/hotsite
COPY configs/docker/run_agent.sh /usr/local/bin/run-agent
COPY configs/docker/healthy.py /usr/local/bin/healthy
ENV PATH=/opt/hotsite/bin:/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1

USER hotsite
WORKDIR /var/lib/hotsite
CMD ["sitectl", "--help"]
