# syntax=docker/dockerfile:1
# CPU image:  docker build -t brainage:0.2.0 .
# GPU image:  docker build -t brainage:0.2.0-gpu --build-arg TORCH_INDEX=https://pypi.org/simple .
ARG PYTHON_IMAGE=python:3.11.9-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY . .
RUN deploy/install.sh /opt/brainage "${TORCH_INDEX}"

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="brainage" \
      org.opencontainers.image.description="Brain age from T1 MRI. Research use only." \
      org.opencontainers.image.licenses="Apache-2.0"
# SimpleITK and OpenMP need the GNU OpenMP runtime and the C++ library, and nothing else.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 brainage \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp brainage \
    && install --directory --owner=10001 --group=10001 /cache /work /models /artifacts /queue
COPY --from=build /opt/brainage /opt/brainage
# The root file system may be read-only: all that is written goes to these and to /tmp.
ENV PATH=/opt/brainage/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    BRAINAGE_CACHE=/cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=true
USER 10001:10001
WORKDIR /work
EXPOSE 8501
ENTRYPOINT []
CMD ["brainage", "--help"]
