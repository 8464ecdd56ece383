# An image of `pipeline serve` (docs/serving.md): make image, or
#   docker build --build-arg TORCH=default --target baked --tag pets .
# TORCH: cpu, or default for PyTorch with CUDA, which needs NVIDIA's container toolkit to run.
# Target: champion (asks an MLflow server for its model), or baked (has the one in models/).
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-bookworm AS environment
ARG TORCH=cpu
WORKDIR /app
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY .ci/install.py .ci/remove_development.py .ci/torch-cpu.lock .ci/
COPY pipeline pipeline
# By the hashes in requirements.lock. The next stage takes neither pip nor what only tests need.
RUN python -m venv .venv \
    && .venv/bin/python .ci/install.py ${TORCH} \
    && .venv/bin/python .ci/remove_development.py

FROM python:${PYTHON}-slim-bookworm AS service
RUN useradd --uid 10001 --create-home pipeline && install --directory --owner pipeline /app/.cache
WORKDIR /app
COPY --from=environment /app /app
COPY params.yaml ./
ENV PATH=/app/.venv/bin:$PATH \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true
USER 10001
EXPOSE 8000
HEALTHCHECK --start-period=120s --interval=15s --timeout=5s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["pipeline", "serve", "--host", "0.0.0.0", "--port", "8000"]

FROM service AS baked
COPY models models
CMD ["models"]

FROM service AS champion
CMD ["@champion"]
