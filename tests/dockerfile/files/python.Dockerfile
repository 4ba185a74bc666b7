ARG PYTHON_VERSION=3.12
FROM {B} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    VIRTUAL_ENV=/app/.venv
ENV PATH="$VIRTUAL_ENV/bin:$PATH"
WORKDIR /app

FROM base AS builder
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      build-essential \
      # for psycopg
      libpq-dev \
 && rm -rf /var/lib/apt/lists/*
COPY requirements*.txt ./
RUN pip install --user -r requirements.txt; pip check
COPY src/ ./src/
RUN uv sync --frozen && mkdir -p "$VIRTUAL_ENV/bin" && echo app > "$VIRTUAL_ENV/bin/app"

FROM base
LABEL org.opencontainers.image.source="https://example.org/app" \
      org.opencontainers.image.licenses=MIT
RUN adduser -D -u 10001 -h /home/worker worker
COPY --from=builder --chown=worker:worker ${VIRTUAL_ENV} ${VIRTUAL_ENV}
COPY --chown=worker src ./src
USER worker
HEALTHCHECK --interval=30s --timeout=3s --retries=3 CMD pip --version || exit 1
EXPOSE 8000/tcp
CMD ["gunicorn", "--bind", "0.0.0.0:8000", "src.app:app"]
