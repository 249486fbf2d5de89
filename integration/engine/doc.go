// Package engine runs container engines as people have them (Docker, containerd,
// Podman, and skopeo for copies) against registries under test.
//
// Each engine is an installation of its own: state, sockets and configuration
// live in one temporary directory that Close removes. It must never touch an
// engine that already runs on the machine, the user's credentials or proxies,
// or the machine's network: there is no bridge and no packet filter rule, and
// registries are reached by plain HTTP on 127.0.0.1. Everything ends at a
// deadline. Docker and containerd need root.
//
// Files: containerd.go (containerd and ctr), docker.go (dockerd with its own
// containerd), engine.go (Engine, Available), grpc.go (calls to containerd's
// services), node.go (a node: containerd with a kubelet's settings, by release),
// podman.go (Podman), process.go (programs and daemons), skopeo.go (skopeo),
// storage.go (overlay file systems, removal), unpacked.go (where Docker and a node
// unpack images).
package engine
