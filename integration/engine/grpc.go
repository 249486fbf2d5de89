//go:build linux

package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// grpcClient calls containerd's services. The few calls need no generated code, and
// the module no client library.
type grpcClient struct{ http.RoundTripper }

func newGRPCClient(socket string) grpcClient {
	transport := overUnix(socket)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	return grpcClient{transport}
}

// call sends one message and returns the answer, or an error with the server's
// words.
func (c grpcClient) call(ctx context.Context, method string, request message) (message, error) {
	// A frame: not compressed, length, content.
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request))), request...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://containerd"+method, bytes.NewReader(frame))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Containerd-Namespace": {"k8s.io"}}
	resp, err := c.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	status := resp.Trailer
	if status.Get("Grpc-Status") == "" { // an error without a message comes in the header
		status = resp.Header
	}
	if code := status.Get("Grpc-Status"); code != "0" {
		text, _ := url.PathUnescape(status.Get("Grpc-Message"))
		return nil, fmt.Errorf("%s: status %s %q: %s", method, resp.Status, code, text)
	}
	if len(body) < 5 {
		return nil, fmt.Errorf("%s: an answer of %d bytes", method, len(body))
	}
	return body[5:], nil
}

// message is a protobuf message.
type message []byte

const (
	varint    = 0 // wire types
	delimited = 2
)

func (m message) bytes(field uint64, value []byte) message {
	m = binary.AppendUvarint(m, field<<3|delimited)
	return append(binary.AppendUvarint(m, uint64(len(value))), value...)
}

func (m message) text(field uint64, value string) message { return m.bytes(field, []byte(value)) }

// flag sets a field to true.
func (m message) flag(field uint64) message {
	return append(binary.AppendUvarint(m, field<<3|varint), 1)
}

// all returns the values of a field of strings or messages. It ends at what it does
// not understand.
func (m message) all(field uint64) (values [][]byte) {
	for len(m) > 0 {
		tag, n := binary.Uvarint(m)
		if n <= 0 {
			return values
		}
		size, k := binary.Uvarint(m[n:])
		if k <= 0 {
			return values
		}
		m = m[n+k:]
		switch {
		case tag&7 == varint:
			continue
		case tag&7 != delimited || size > uint64(len(m)):
			return values
		case tag>>3 == field:
			values = append(values, m[:size])
		}
		m = m[size:]
	}
	return values
}

// first returns the first value of a field, or nil.
func (m message) first(field uint64) []byte {
	if values := m.all(field); len(values) > 0 {
		return values[0]
	}
	return nil
}
