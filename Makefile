.PHONY: all build platforms test test-all soak rootfs check-deploy lint demo fuzz bench

all: lint test build

build: ## the static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o waveproxy ./cmd/waveproxy

# The commands are for laptops, too. The server refuses to run on Windows.
platforms: ## whether it builds for macOS and Windows
	for target in darwin/arm64 darwin/amd64 windows/amd64 windows/arm64; do \
		GOOS=$${target%/*} GOARCH=$${target#*/} CGO_ENABLED=0 go build -o /dev/null ./cmd/waveproxy || exit 1; done

# The tests of the program are built as it is, without cgo, so that both are compiled once.
# With -trimpath, another clone finds in the build cache what the first one has compiled, and
# without debug information linking takes half as long.
fast := -trimpath -vet=off -ldflags=-w
static := CGO_ENABLED=0 go test $(fast)

# Programs with the race detector sleep for a second before they end, unless told otherwise.
race := GORACE=atexit_sleep_ms=10 go test -race $(fast)

# The main job: images of every kind, augmented, pulled, and run by every engine.
# -count=1, because go test does not see that the program has changed.
main := harness pull conformance engines
unit := $$(go list ./... | grep -v -e /integration/ -e /internal/structure)

test: ## vet, unit tests, and the main job with the container engines this machine has
	CGO_ENABLED=0 go vet -trimpath ./...
	$(race) -timeout 10m $(unit)
	$(static) -count=1 -timeout 10m ./internal/structure $(main:%=./integration/%)

test-all: test ## everything: also attacks, faults, logins, nodes, replicas, commands
	$(race) -count=1 -timeout 5m ./blobstore/cache -run TestKill -kills 20
	$(race) -count=1 -timeout 5m ./blobstore -run TestYear -days 365
	$(race) -count=1 -timeout 5m ./integration/upstream
	$(static) -count=1 -timeout 15m $$(go list ./integration/... | grep -v $(main:%=-e /integration/%$$) -e /integration$$ -e /integration/upstream$$)

soak: ## honest clients beside one attacker of each kind, under 512 MiB; needs root and a quiet machine
	go test -count=1 -v -timeout 30m ./integration/soak -length 20s -latency

rootfs: ## 3,000 generated images, unpacked by Docker, containerd and tar; needs root, about 15 minutes
	go test -count=1 -v -timeout 60m ./integration/rootfs -cases 3000 -seed 0

check-deploy: ## what is in deploy/, with Helm, nginx, haproxy and systemd's own checks
	cd deploy/check && go vet ./... && go test -count=1 ./...

bench: ## us beside nginx and distribution; needs root and nginx, about 25 minutes
	go run ./bench

# The linters and the reason for each are in .golangci.yml.
golangci := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

lint: ## formatting, modules, linters
	test -z "$$(gofmt -l . | tee /dev/stderr)"
	go mod tidy -diff
	$(golangci) run --allow-serial-runners ./...

demo:
	go run ./cmd/waveproxy demo

fuzz: ## every fuzz target for a minute
	bash hack/fuzz.sh 60s
