# docker build -f docker/cuda.Dockerfile -t headscan-cuda . && docker run --rm --gpus all headscan-cuda doctor
FROM nvidia/cuda:12.8.1-devel-ubuntu24.04 AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ python3-dev python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN python3 -m venv /venv && /venv/bin/pip install --no-cache-dir build \
 && CMAKE_ARGS=-DHEADSCAN_CUDA=ON /venv/bin/python -m build --wheel --outdir /dist

FROM nvidia/cuda:12.8.1-base-ubuntu24.04
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
COPY --from=build /dist/*.whl /tmp/
RUN python3 -m venv /venv && /venv/bin/pip install --no-cache-dir /tmp/*.whl && rm /tmp/*.whl && useradd --create-home headscan
USER headscan
ENTRYPOINT ["/venv/bin/headscan"]
CMD ["scan", "demo", "--device", "cuda", "--out", "/tmp/out"]
