// Package front is the HTTP door of the server: what every request passes,
// whichever plane answers it. Front logs each request once, finds the client's
// address behind reverse proxies and cuts clients that stop reading. ProblemOf
// is the one place that maps errors to statuses. BasicLogin and Guesses check
// logins. Each request gets a budget in the name of its client.
//
// The package must never let the text of an unmapped error, a token or a password
// reach a client or the log.
//
// Files: accesslog.go (Front, Record), charge.go (what a request
// costs by itself), client.go (client addresses), codes.go
// (error codes), context.go (a request's context, with record and budget),
// errors.go (errors into answers), rest.go (bodies that are not wanted), host.go (the
// server's names, and browsers), login.go (logins), guesses.go (limits of wrong ones).
package front
