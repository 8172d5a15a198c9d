# The server's image: answers of one bundle over HTTP, without torch. docs/deployment.md says how it is run.
#
#   docker build -t multimodal-serve .
#   docker build -t multimodal-serve:cuda --build-arg EXTRAS=serve,cuda .

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml requirements-build.txt requirements-serve.txt requirements-serve-cuda.txt README.md LICENSE ./
COPY encoders ./encoders
COPY fusion ./fusion
COPY multimodal ./multimodal
COPY export ./export
RUN python -m pip install --no-cache-dir --require-hashes --requirement requirements-build.txt \
 && python -m build --wheel --no-isolation --outdir /dist \
 && cp requirements-*.txt /dist/

FROM python:${PYTHON}-slim
ARG EXTRAS=serve
COPY --from=wheel /dist /dist
# every package by its hash (make lock), then the wheel by its file: its name could come from a registry, too
RUN python -m pip install --no-cache-dir --require-hashes \
      --requirement "/dist/requirements-$(echo "${EXTRAS}" | tr , -).txt" \
 && python -m pip install --no-cache-dir --no-deps --no-index /dist/*.whl \
 && python -m pip check
# a number, so that Kubernetes can see that it is not root
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
 CMD ["python", "-c", "import http.client, sys; server = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); server.request('GET', '/v2/health/ready'); sys.exit(server.getresponse().status != 200)"]
# the token comes in MULTIMODAL_TOKEN, and further options of serve behind the image's name
ENTRYPOINT ["multimodal", "serve", "/bundle", "--host", "0.0.0.0", "--port", "8000"]
