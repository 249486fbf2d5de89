// Package soak runs honest clients beside one attacker of each kind in turn,
// against the real binary in a memory cgroup of 512 MiB, and prints how the
// honest clients fare.
//
// For each kind the table has the honest clients' median and 99th percentile
// before and during the attack, their errors, the bytes of other tenants that the
// attacker got, and the server's peak of memory, open files and stored files. The
// registries answer after 20 ms, like registries in the same region.
//
// Attackers have a process of the lowest priority, because what they do to the
// machine by themselves is not what the soak measures.
//
// The test needs root for the cgroup. Its -length says how long each attack
// takes, -only which kinds to run.
//
// Files: attacker_test.go (an attacker's process), attacks_test.go (bodies and
// documents), attackcache_test.go (blobs), attacklogin_test.go (logins, queues,
// helpers), honest_test.go (honest clients), images_test.go (images),
// registry_test.go (registries), server_test.go (the server in its cgroup),
// soak_test.go (the table).
package soak
