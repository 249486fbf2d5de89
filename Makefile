.PHONY: all build test check-deploy lint demo fuzz bench

all: lint test build

build: ## the static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o waveproxy ./cmd/waveproxy

test: ## everything, with the container engines this machine has
	go test -race -timeout 15m ./...

check-deploy: ## what is in deploy/, with Helm, nginx, haproxy and systemd's own checks
	cd deploy/check && go vet ./... && go test -count=1 ./...

bench: ## us beside nginx and distribution; needs root and nginx, about 25 minutes
	go run ./bench

lint:
	test -z "$$(gofmt -l .)"
	go vet ./...
	staticcheck ./...

demo:
	go run ./cmd/waveproxy demo

fuzz: ## every fuzz target for a minute
	bash hack/fuzz.sh 60s
