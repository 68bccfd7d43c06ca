# cocabench in a container, from its wheel. TORCH: cpu, or a CUDA version of torch's wheels, such as cu126.
#   docker build --tag cocabench .
#   docker build --tag cocabench:cuda --build-arg TORCH=cu126 .
#   docker run --rm cocabench                                  evaluates the demo
#   docker run --rm --gpus all cocabench:cuda doctor --gpu
FROM python:3.12-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY cocabench cocabench
COPY tasks tasks
COPY results/published results/published
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.12-slim
ARG TORCH=cpu
# hadolint ignore=DL3013
RUN pip install --no-cache-dir torch torchvision --index-url "https://download.pytorch.org/whl/${TORCH}"
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir "$(echo /dist/*.whl)[hf,probe]" && useradd --create-home --uid 1000 bench
USER 1000
WORKDIR /home/bench
ENTRYPOINT ["cocabench"]
CMD ["run", "--model", "demo", "--tasks", "demo"]
