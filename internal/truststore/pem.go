package truststore

import (
	"bytes"
	"encoding/pem"
)

// AppendPEM returns a bundle with the certificates that it lacks at its end, and the
// bundle itself if it lacks none.
func AppendPEM(bundle []byte, certificates []Certificate) []byte {
	known := map[string]bool{}
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		known[string(block.Bytes)] = true
	}
	added := bundle[:len(bundle):len(bundle)]
	for _, c := range certificates {
		if known[string(c.Raw)] {
			continue
		}
		if len(added) > 0 && !bytes.HasSuffix(added, []byte("\n")) {
			added = append(added, '\n')
		}
		added = append(added, c.PEM()...)
	}
	return added
}
