# The image is one static binary with the roots it trusts: no shell, no package manager, no
# user database. It runs with a read-only root file system; only /data is written to, and
# only by the embedded NATS server (without NATS_URL).
#
# ARTEFACTS=prebuilt takes what `make image-files` laid out, without the toolchain's image.
ARG GO_VERSION=1.26.8
ARG ARTEFACTS=build

FROM golang:${GO_VERSION}-bookworm AS build
ENV GOTOOLCHAIN=local
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
ARG REVISION=
RUN make image-files VERSION="${VERSION}" REVISION="${REVISION}"

FROM scratch AS prebuilt
COPY bin/image/ /src/bin/image/

FROM ${ARTEFACTS} AS artefacts

FROM scratch
COPY --from=artefacts /src/bin/image/root/ /
# A new volume takes over this owner.
COPY --from=artefacts --chown=65532:65532 /src/bin/image/data/ /data/

ARG VERSION=unknown
ARG REVISION=
LABEL org.opencontainers.image.title="meterworker" \
      org.opencontainers.image.description="Delivers usage events from NATS JetStream to Stripe's billing meters, each exactly once in effect" \
      org.opencontainers.image.source="https://github.com/meterworker/meterworker" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

ENV METERWORKER_DATA_DIR=/data
VOLUME /data

# Numeric, so that Kubernetes can tell that it is not root.
USER 65532:65532

# The admin address stays on the container's loopback until somebody sets METERWORKER_ADMIN_ADDR.
EXPOSE 8080 4242

STOPSIGNAL SIGTERM
# The first seconds of a worker are its waiting for NATS and reading of the journal.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["/meterworker", "healthcheck"]
ENTRYPOINT ["/meterworker"]
CMD ["run"]
