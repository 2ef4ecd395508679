# An image of `nuner-embed serve`; docs/serving.md explains it. It was never built: no builder was at hand.
#
#   docker build -t nuner-embed .
#   docker build -t nuner-embed-gpu --build-arg EXTRAS=gpu,serve --build-arg BASE=IMAGE-WITH-PYTHON-AND-CUDA .
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
ARG EXTRAS=cpu,serve
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY nuner_embed nuner_embed
COPY cli cli
COPY export export
COPY indexes indexes
RUN python3 -m venv /opt/nuner-embed \
    && PIP_CONSTRAINT=constraints.txt /opt/nuner-embed/bin/pip install --no-cache-dir ".[${EXTRAS}]"

FROM ${BASE}
RUN useradd --create-home --uid 10001 nuner
COPY --from=build /opt/nuner-embed /opt/nuner-embed
ENV PATH=/opt/nuner-embed/bin:$PATH
USER nuner
WORKDIR /home/nuner
EXPOSE 8000
STOPSIGNAL SIGTERM
# a model may take a minute to load; until then the server answers 503
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# the address must be reachable from outside of the container
ENTRYPOINT ["nuner-embed", "serve", "--host", "0.0.0.0", "--port", "8000"]
