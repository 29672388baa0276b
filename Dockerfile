# The image: one binary, the libraries it is linked to, certificates, and nothing else. No shell, no package manager, no root.
#
#   docker build -t riverrun:0.1.0 .
#
# A release gives both base images by digest: --build-arg BUILD_IMAGE=rust@sha256:... , which then also names the libraries that are copied.
ARG BUILD_IMAGE=rust:1.95-bookworm

FROM ${BUILD_IMAGE} AS chef
RUN ["cargo", "install", "cargo-chef", "--locked", "--version", "0.1.77"]
WORKDIR /src

FROM chef AS plan
COPY . .
RUN ["cargo", "chef", "prepare", "--recipe-path", "recipe.json"]

FROM chef AS build
COPY --from=plan /src/recipe.json recipe.json
# Everything that is not ours, as a layer of its own: it changes with Cargo.lock only.
RUN ["cargo", "chef", "cook", "--release", "--workspace", "--locked", "--recipe-path", "recipe.json"]
COPY . .
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
RUN ["cargo", "build", "--release", "--workspace", "--locked"]
RUN ["scripts/rootfs.sh", "target/release/riverrun", "/image"]

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="riverrun" \
      org.opencontainers.image.description="A stream processor for behaviour data: the same bytes at every run." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
# By number: `runAsNonRoot` cannot tell who a name is.
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/usr/bin/riverrun"]
CMD ["--help"]
