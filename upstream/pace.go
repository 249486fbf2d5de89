package upstream

import (
	"io"
	"time"
)

// In pacePeriod of waiting for its bytes, a layer must bring minPaced of them, 16
// KiB/s. One that trickles holds a file and a connection for half an hour otherwise.
const (
	pacePeriod = time.Minute
	minPaced   = int64(16<<10) * int64(pacePeriod/time.Second)
)

// paced is a body that ends when its host sends too slowly. The time that its reader
// takes does not count.
type paced struct {
	io.ReadCloser
	call   *call
	host   string
	waited time.Duration // in this period
	n      int64         // bytes in this period
}

func (p *paced) Read(b []byte) (int, error) {
	begun := time.Now()
	n, err := p.ReadCloser.Read(b)
	p.waited += time.Since(begun)
	p.n += int64(n)
	if err != nil || p.waited < pacePeriod {
		return n, err
	}
	if p.n < minPaced {
		e := p.call.newError(Timeout)
		e.Host, e.detail = p.host, p.host+" sends less than 16 KiB/s, which this server does not wait for; try again later"
		return n, e
	}
	p.waited, p.n = 0, 0
	return n, nil
}
