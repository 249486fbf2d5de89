FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /out/waveproxy ./cmd/waveproxy \
 && mkdir -p /out/data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/waveproxy /waveproxy
COPY --from=build --chown=nonroot:nonroot /out/data /data
ENV WAVEPROXY_STORAGE_DIR=/data
VOLUME /data
EXPOSE 9090
ENTRYPOINT ["/waveproxy"]
CMD ["serve"]
