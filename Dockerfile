# The service: docker build -t tgqformer . && docker run -p 127.0.0.1:8000:8000 -v ./run:/data/run tgqformer
FROM python:3.11-slim

# For processors alone, name PyTorch's own index of CPU builds here: that saves gigabytes.
ARG PIP_EXTRA_INDEX_URL

RUN useradd --create-home --uid 1000 tgq
WORKDIR /srv/tgqformer
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# The last line installs this folder; what it needs stands in constraints.txt by version and digest.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --no-deps "$(grep -o '^torch==[0-9.]*' constraints.txt)" \
    && pip install --no-cache-dir --no-deps --require-hashes -r constraints.txt \
    && pip install --no-cache-dir --no-build-isolation '.[serve,postgres]'
USER 1000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["tgq"]
CMD ["serve", "/data/run", "--host", "0.0.0.0", "--keys", "/data/run/keys.json", "--open-reads"]
