package upstreamtest

import (
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// ErrorBody is in the body of answers that Status makes. No error or log line may
// show it.
const ErrorBody = "the body of the answer"

// Status answers with a status and headers, given as name and value in turns.
func Status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, ErrorBody)
	}
}

// InTurn answers with each handler once, in order, and then always with the last.
func InTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, req *http.Request) {
		i := int(n.Add(1)) - 1
		handlers[min(i, len(handlers)-1)](w, req)
	}
}

// Reset breaks the connection without an answer, with RST.
func Reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// HangUp closes the connection in the middle of the answer.
func HangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Silence gives no answer until the client leaves.
func Silence(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }
