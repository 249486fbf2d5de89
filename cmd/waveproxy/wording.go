package main

import (
	"regexp"
	"strconv"
)

// wording says which options of the command line the parts of a request came from, so
// that a refusal names what was typed.
type wording struct {
	layers []string // of each layer of the request
}

var (
	// layerMember is how the server calls a layer, with what other clients call it.
	layerMember = regexp.MustCompile(`^containerConfig\.layers\[(\d+)\](?:\.(\w+ )|(?: \(.*?\))?: )`)
	// otherMember is how it calls other parts.
	otherMember = regexp.MustCompile(`^(?:containerConfig \(wave --config-([\w-]+)\): |(ttl) )`)
	// options are this command's names for options of the wave command and for members.
	options = map[string]string{
		"env": "--env: ", "entrypoint": "--entrypoint: ", "cmd": "--cmd: ", "working-dir": "--workdir: ", "ttl": "--ttl ",
	}
)

// spell returns a server's message with this command's options in the place of the
// members and options that the message begins with. Others stay.
func (w wording) spell(message string) string {
	if m := layerMember.FindStringSubmatch(message); m != nil {
		i, err := strconv.Atoi(m[1])
		if err != nil || i >= len(w.layers) {
			return message
		}
		return w.layers[i] + ": " + m[2] + message[len(m[0]):]
	}
	if m := otherMember.FindStringSubmatch(message); m != nil {
		if option, ok := options[m[1]+m[2]]; ok {
			return option + message[len(m[0]):]
		}
	}
	return message
}
