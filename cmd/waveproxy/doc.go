// Command waveproxy is an OCI registry proxy that augments container images
// while they are pulled. "waveproxy serve" is the server; the other commands
// talk to a server, or look at images and configuration.
//
// Files: main.go (the command line), serve.go, gate.go, ready.go, renew.go, notify.go, connections.go, heads.go (serve), wire.go
// (the server's parts),
// wireauth.go (logins and upstreams), wireproxy.go (the way out), wirerecipes.go (recipes and reloading them),
// wirestorage.go (tokens and the store), wirebucket.go (the store in a bucket), collect.go (cleaning it), storage.go (storage), certificate.go (the TLS certificate),
// configcmd.go (config), augment.go (augment), wording.go (its refusals), fusion.go (its documents), document.go
// (reading documents), download.go (files and URLs), layer.go (layer pack),
// layerimport.go (layer import), hosts.go, hostsdir.go, hostsrecipe.go and
// containerd.go (hosts), inspect.go
// (inspect), token.go (token), demo.go (demo), health.go (health), version.go
// (version).
package main
