# syntax=docker/dockerfile:1
# docker build -t polyport .
# docker run --rm -p 7000:7000 -v "$PWD/polyport.toml:/etc/polyport/polyport.toml:ro" polyport

FROM rust:1-slim-bookworm AS build
# ring compiles a little C.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# First what dependencies are made of, with empty sources: this layer stays while only our
# own code changes.
COPY Cargo.toml Cargo.lock ./
COPY codecs/Cargo.toml codecs/
COPY router/Cargo.toml router/
COPY proxy/Cargo.toml proxy/
COPY benches/Cargo.toml benches/
COPY tests/Cargo.toml tests/
COPY packaging/empty-sources.sh packaging/
RUN sh packaging/empty-sources.sh \
    && cargo build --release --locked --bin polyport
COPY codecs/ codecs/
COPY router/ router/
COPY proxy/ proxy/
# cargo goes by times, and those of the empty sources are later.
RUN find codecs router proxy -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --bin polyport

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/polyport /usr/bin/polyport
# In a container the world is the container: the packaged config listens on all addresses.
COPY packaging/polyport.toml /etc/polyport/polyport.toml
# 65532, a user that owns nothing. Ports below 1024 are open to it where the runtime's
# net.ipv4.ip_unprivileged_port_start is 0, as Docker sets it.
USER nonroot
EXPOSE 7000
# Finishes what is in flight: give it drain-timeout (30 s) and a little with --stop-timeout.
STOPSIGNAL SIGTERM
# The image has no shell to ask with; orchestrators ask GET /ready at [admin].
HEALTHCHECK NONE
ENTRYPOINT ["/usr/bin/polyport"]
CMD ["run", "-c", "/etc/polyport/polyport.toml"]
