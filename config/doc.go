// Package config is the configuration of the server: values of the types that the
// server works with, read once from a YAML file and the environment. The types
// judge their own text when it is read; what depends on several values, or on
// files, is checked afterwards. All problems are reported at once, each with its
// line and key.
//
// The files:
//
//	config.go      Config, its smaller sections, and the defaults
//	bucket.go      storage in a bucket
//	registries.go  how registries are reached
//	proxy.go       the way out
//	login.go       users, passwords and sets of them
//	clouds.go      the registries of cloud providers
//	recipes.go     named recipes
//	api.go         callers of the API, and what they may do
//	limits.go      what clients and requests may have, and what requests cost
//	types.go       values with a text form: words, addresses, URLs, platforms
//	size.go        numbers of bytes
//	secret.go      secrets, and the three ways to give one
//	load.go        from the file and the environment to a Config
//	check.go       what must hold between values, and of the files they name
//	files.go       what takes effect without a restart
//	schema.go      the JSON schema
//
// To add a key: add a field with a yaml tag, and a comment that ends in its
// default, to the section it belongs to. Give it a type that refuses bad text
// (UnmarshalText) and, if only some texts are allowed, the schema of that type in
// schema.go. Set its default in Defaults. Check in check.go what no value can know
// alone. Show it in config.example.yml, behind a # if it has no fixed default: a
// test misses it there otherwise. Run "go test ./config -run TestChartSchema
// -update", which brings the schema of the Helm chart up to date. Use the field in cmd/waveproxy/wire*.go.
//
// The package must never show a secret in an error or a printed value, and never
// be imported by anything but cmd: other packages take options.
package config
