.PHONY: all build test lint demo fuzz

all: lint test build

build: ## the static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o waveproxy ./cmd/waveproxy

test: ## everything, with the container engines this machine has
	go test -race -timeout 15m ./...

lint:
	test -z "$$(gofmt -l .)"
	go vet ./...
	staticcheck ./...

demo:
	go run ./cmd/waveproxy demo

fuzz: ## every fuzz target for a minute
	bash hack/fuzz.sh 60s
