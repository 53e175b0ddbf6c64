# The server for programs: docs/use.md. `docker build -t expression-server .`, or `docker compose up`.
# About 450 MB: Python's slim image, and what `pip install ".[server]"` brings (300 MB).
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt *.py ./
COPY lab/ lab/
COPY checkpoints/ checkpoints/
COPY expression/ expression/
RUN python -m venv /opt/expression \
    && /opt/expression/bin/pip install --no-cache-dir -c constraints.txt ".[server]" \
    && /opt/expression/bin/pip uninstall --yes pip

FROM python:3.11-slim
COPY --from=build /opt/expression /opt/expression
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin expression
ENV PATH=/opt/expression/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER expression
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# A stop (SIGTERM) answers what was taken in, within 30 seconds: `docker stop --time 40`.
ENTRYPOINT ["expression-server", "--host", "0.0.0.0", "--port", "8000"]
