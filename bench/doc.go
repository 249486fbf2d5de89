// Bench compares waveproxy with the alternatives: no proxy at all, nginx, nginx with a cache, and distribution's pull-through registry.
//
//	go run ./bench [-rounds N] [-only REGEXP] [-short] [-json FILE]
//
// It needs Linux, root, nginx and the ip program. It runs in a network, process
// and mount namespace of its own, so it has no connection to other machines, and
// everything it started ends with it.
//
// What makes the numbers comparable:
//
//   - Congestion control is cubic, Linux' default. Others, such as bbr, pace on
//     loopback too, which costs more than any proxy and hides the differences.
//   - Only ratios count, and only those taken within one round. Every round
//     starts every server afresh, in rotated order; the table has medians over
//     the rounds and their range. A sample during which other programs of the
//     machine used much CPU is taken again once.
//   - The reference is an nginx whose buffers are large. With its defaults it
//     reads 4 KiB at a time and uses several times as much CPU.
//   - Upstream, proxy and client share the machine, so MB/s is the speed of the whole
//     chain. CPU seconds per GB count the proxy's processes only.
//   - The client that takes blobs has the kernel throw them away (MSG_TRUNC), so
//     that it costs next to nothing. Each server's bytes are compared with
//     their digests before it is measured, and every answer's status and length
//     while it is.
//   - No server writes an access log.
//
// A measurement that fails is a line in the table and a non-zero exit status. A
// goal that is missed is only a word in the table.
//
// Files: main.go (flags and the run), namespace.go (the namespaces), tools.go (the
// programs under test), lab.go (running servers), meter.go (their CPU time and memory),
// process.go (their processes), image.go (the images), certificate.go (the certificate of
// all servers), nginx.go (the upstream and the nginx proxies), contender.go (the
// contenders), verify.go (whether they serve the right bytes), drain.go (a client that
// throws blobs away), blobs.go (fast and slow streams of blobs), manifests.go (many small
// requests), mint.go (the time of an augmentation),
// submits.go (many augmentations), pull.go (whole images), plan.go (what
// is measured, and the goals), result.go (rounds and samples), table.go (the table),
// machine.go (the machine and its versions), other.go (other systems than Linux).
package main
