# The image of the sidecar. `make image` builds it; `make image-check` carries out these very steps without Docker.
# PYTHON is the version, and bookworm the system, that the tests run on.
ARG PYTHON=3.11

# The full image, for `strip`; nothing of it is in the result.
FROM python:${PYTHON}-bookworm AS build
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip tools \
 && python -m pip --python tools/bin/python install --quiet --require-hashes --no-deps --only-binary :all: -r requirements-build.lock
RUN --mount=type=cache,target=/root/.cache/uv \
    python -m venv --without-pip /opt/sidecache \
 && tools/bin/uv pip install --quiet --python /opt/sidecache/bin/python --require-hashes --no-deps --only-binary :all: --link-mode copy -r requirements.lock
# Of botocore's data only what finding credentials needs; zstandard has its work done by the other backend; symbols.
WORKDIR /opt/sidecache/lib
RUN find . -path '*/botocore/data/*' -prune -type d ! -name sts ! -name 'sso*' ! -name signin -exec rm -r {} + \
 && find . -name tests -type d -prune -exec rm -r {} + \
 && find . -path '*/zstandard/_cffi*.so' -delete \
 && find . -name '*.so' -exec strip --strip-unneeded {} +
WORKDIR /build
COPY pyproject.toml README.md rules.yaml ./
COPY proxy proxy
RUN tools/bin/python -m hatchling build --target wheel \
 && tools/bin/uv pip install --quiet --python /opt/sidecache/bin/python --no-deps --no-index dist/*.whl \
 && rm /opt/sidecache/bin/[Aa]ctivate* /opt/sidecache/.lock \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sidecache/lib

FROM python:${PYTHON}-slim-bookworm
ARG PYTHON
# The base has no bytecode of its library, and a read-only root could not keep any: without this each start compiles it.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    -x '/(site-packages|ensurepip|idlelib|lib2to3|pydoc_data|tkinter|turtledemo|distutils)/' "/usr/local/lib/python${PYTHON}"
COPY --from=build /opt/sidecache /opt/sidecache
ENV PATH=/opt/sidecache/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SIDECACHE_RULES=/etc/sidecache/rules.yaml
WORKDIR /etc/sidecache
# A number, so that Kubernetes can see that it is not root; any other does as well, nothing is written anywhere.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# livez of this process: neither the store nor the upstream can make it fail.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["sidecache", "health"]
ENTRYPOINT ["sidecache"]
CMD ["run"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sidecache" \
      org.opencontainers.image.description="A transparent caching reverse proxy that runs as a sidecar in front of a multi-tenant API" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:${PYTHON}-slim-bookworm"
