// Bench compares waveproxy with what else could stand in its place: no proxy at
// all, nginx, nginx with a cache, and distribution's pull-through registry.
//
//	go run ./bench [-rounds N] [-only REGEXP] [-short] [-json FILE]
//
// It needs Linux, root, nginx and the ip program. It runs in a network, process
// and mount namespace of its own, so it reaches nobody, nobody reaches it, and
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
//     reads 4 KiB at a time and is several times dearer.
//   - Upstream, proxy and client share the machine, so MB/s is that of the whole
//     chain. CPU seconds per GB are those of the proxy's processes alone.
//   - The client that takes blobs has the kernel throw them away (MSG_TRUNC), so
//     that it costs next to nothing. Each server's bytes are compared with
//     their digests before it is measured, and every answer's status and length
//     while it is.
//   - Nobody writes an access log.
//
// The files:
//
//	main.go, namespace.go, tools.go  what happens outside and how to get inside
//	lab.go, meter.go, process.go     running servers and what they use
//	image.go, nginx.go, contender.go what is served, and by whom
//	verify.go                        whether they serve it right
//	drain.go, blobs.go               fast and slow streams of blobs
//	manifests.go                     many small requests
//	mint.go                          the time augmentation takes
//	pull.go, cold.go                 whole images
//	plan.go, result.go, table.go     what is measured, against what, and how it went
//
// A measurement that fails is a line in the table and a non-zero exit status. A
// goal that is missed is only a word in the table.
package main
