// Package private tests registries that require a login: every place for a
// credential, tokens that expire or are revoked, tenants, and the messages when
// access is refused. No secret may be logged or stored, which the harness checks
// after every test.
//
// Files: main_test.go (TestMain), name_test.go (registries whose name does not
// resolve), private_test.go (credentials, refusals, tenants), pull_test.go (every
// byte through every engine), refusals_test.go (messages), tokens_test.go (tokens
// of token servers).
package private
