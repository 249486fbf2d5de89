// Package yamlstrict fills a Go struct from YAML and the environment, reports
// every problem at once, each with its place and key, and describes the struct as
// a JSON schema.
//
// It exists because the strict mode of the YAML library names neither the key of
// a bad value nor the path of an unknown one, and quotes values, some of which are
// secrets. It knows no type of the program: a type that implements
// encoding.TextUnmarshaler reads and judges its own text. Its errors are shown as
// they are, so they must quote only what may be seen.
//
// The files:
//
//	problem.go      what is wrong, where, and in which order it is told
//	decode.go       a YAML document becomes values
//	environment.go  variables override single values
//	fields.go       the keys of a struct
//	schema.go       the JSON schema of a struct
//	comments.go     the comments of fields become its descriptions
//
// The package must never quote the value of a string.
package yamlstrict
