# The gateway as an image: no root, nothing to write but /data.
#
#   docker build -t codex-relay .
#   docker run --read-only --tmpfs /tmp -v relay-data:/data -p 127.0.0.1:8080:8080 codex-relay
#
# The base needs Python 3.11 or later with venv (or python3 and pip). Wheels in a folder wheels/ of the build context
# are used when they are there, so that the build needs no network:
#   pip download --require-hashes -r requirements.lock -d wheels
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements.lock wheel[s] /tmp/build/
RUN python3 -m venv /app/venv \
    && if ls /tmp/build/*.whl >/dev/null 2>&1; then found="--no-index --find-links /tmp/build"; else found=""; fi \
    && /app/venv/bin/python -m pip install --quiet $found --require-hashes -r /tmp/build/requirements.lock \
    && rm -rf /tmp/build \
    && echo /app > "$(/app/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/codex-relay.pth" \
    && printf '#!/app/venv/bin/python\nimport sys\nfrom ops.cli import main\nsys.exit(main())\n' > /app/venv/bin/codex-relay \
    && chmod 755 /app/venv/bin/codex-relay \
    && mkdir -m 700 /data && chown 10001:10001 /data

COPY auth auth
COPY gateway gateway
COPY router router
COPY sandbox sandbox
COPY store store
COPY upstream upstream
COPY ops ops
RUN /app/venv/bin/python -m compileall -q /app/auth /app/gateway /app/router /app/sandbox /app/store /app/upstream /app/ops

USER 10001:10001
WORKDIR /data
VOLUME /data
ENV PATH=/app/venv/bin:/usr/local/bin:/usr/bin:/bin \
    CODEX_RELAY_SERVER__HOST=0.0.0.0 \
    CODEX_RELAY_STORE__URL=sqlite:////data/relay.db \
    CODEX_RELAY_VAULT__KEY_FILE=/data/vault.key
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["/app/venv/bin/python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('CODEX_RELAY_SERVER__PORT', '8080') + '/healthz', timeout=2)"]
ENTRYPOINT ["codex-relay"]
CMD ["serve"]
