# docker build -f docker/cpu.Dockerfile -t headscan . && docker run --rm -v "$PWD/out:/out" headscan scan demo --out /out/scan
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir build && CMAKE_ARGS=-DHEADSCAN_CUDA=OFF python -m build --wheel --outdir /dist

FROM python:3.12-slim
COPY --from=build /dist/*.whl /tmp/
RUN pip install --no-cache-dir /tmp/*.whl && rm /tmp/*.whl && useradd --create-home headscan
USER headscan
ENTRYPOINT ["headscan"]
CMD ["scan", "demo", "--out", "/tmp/out"]
