# A node in a container: scripts/image builds it, docs/testnet.md tells of it.
#
# Wheels that scripts/image has laid into build/image are installed as they are, and the build needs
# no network; without them the locked packages come from the package index. All stages start from
# one base, so that what is made in one fits the other.
ARG BASE=python:3.11-slim-bookworm

# What the node needs: a stage that is built anew only when the lock changes.
FROM ${BASE} AS packages
# The pattern may match nothing.
COPY requirements.lock build/image/wheel[s] /build/packages/
RUN set -e; cd /build; \
    python3 -m venv tool; \
    python3 -m venv --without-pip /opt/unchained; \
    pip="tool/bin/pip --disable-pip-version-check --python /opt/unchained/bin/python"; \
    if ls packages/*.whl > /dev/null 2>&1; then \
        $pip install --no-index --no-deps packages/*.whl; \
    else \
        apt-get update; \
        apt-get install -y --no-install-recommends gcc libc6-dev libgmp-dev; \
        $pip install --require-hashes -r packages/requirements.lock; \
    fi; \
    find /opt/unchained -type d '(' -name tests -o -name SelfTest ')' -prune -exec rm -r '{}' +; \
    echo /opt/node > "$(echo /opt/unchained/lib/python3*/site-packages)/node.pth"

# The node itself, in a folder of its own.
FROM packages AS node
COPY . /build/source/
RUN set -e; cd /build; \
    pip="tool/bin/pip --disable-pip-version-check --python /opt/unchained/bin/python"; \
    if ls source/build/image/own/*.whl > /dev/null 2>&1; then \
        $pip install --no-index --no-deps --target /opt/node source/build/image/own/*.whl; \
    else \
        $pip install --no-deps --target /opt/node ./source; \
    fi; \
    : The native kernel is optional elsewhere, but an image without it would mine at a fraction.; \
    /opt/unchained/bin/python -c "import unchained.node.crypto._argon2"

FROM ${BASE}
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin unchained && \
    mkdir --mode 0700 /data /mining && chown unchained: /data /mining
ENV PATH=/opt/node/bin:/opt/unchained/bin:$PATH \
    UNCHAINED_NODE__DATA_DIR=/data \
    UNCHAINED_NETWORK__LISTEN=/ip4/0.0.0.0/tcp/auto \
    UNCHAINED_RPC__LISTEN=0.0.0.0:auto
USER unchained
VOLUME /data
# Those of local, reg, test and main.
EXPOSE 4001 8645 4011 8655 4021 8665 4031 8675
# The node says itself where it listens, and why it is not ready.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-I", "-c", "\
from http.client import HTTPConnection as To\n\
to = To(open('/data/rpc.url').read().removeprefix('http://'), timeout=4)\n\
to.request('GET', '/readyz')\n\
said = to.getresponse()\n\
print(said.read().decode())\n\
raise SystemExit(said.status != 200)\n"]
ENTRYPOINT ["unchained-node"]
CMD ["start"]
COPY --from=packages /opt/unchained /opt/unchained
COPY --from=node /opt/node /opt/node
# By this scripts/image knows an image that is up to date.
ARG MADE_FROM=unknown
LABEL org.unchained.made-from=$MADE_FROM
