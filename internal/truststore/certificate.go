package truststore

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// maxCertificates bounds the certificates of one file. A list of all public authorities
// has three times as many, and is no authority of an organisation.
const maxCertificates = 50

// Certificate is a certificate of an authority.
type Certificate struct {
	*x509.Certificate
	// Name is a file name without suffix, which no other certificate has: its subject's
	// name and a part of its digest.
	Name string
}

// PEM returns the certificate alone, without the text around it.
func (c Certificate) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: c.Raw})
}

const blockType = "CERTIFICATE"

// Parse returns the certificates of a text in PEM, each one once. An error says what is
// wrong with the text, and shows nothing of it but subjects.
func Parse(text []byte) ([]Certificate, error) {
	var found []Certificate
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // editors on Windows write it
	blocks := 0
	for rest := text; ; blocks++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case strings.Contains(block.Type, "PRIVATE KEY"):
			return nil, errors.New("has a private key, which must never be in an image: give the certificate alone")
		case block.Type != blockType:
			return nil, fmt.Errorf("has a block %.40q, and only CERTIFICATE is taken", block.Type)
		case len(found) == maxCertificates:
			return nil, fmt.Errorf("has more than %d certificates", maxCertificates)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(found)+1, err)
		}
		if c.BasicConstraintsValid && !c.IsCA {
			return nil, fmt.Errorf("certificate %d, %.100q, is not of an authority but of a server or client: give the certificate of its issuer, %.100q", len(found)+1, c.Subject, c.Issuer)
		}
		if !has(found, c.Raw) {
			found = append(found, Certificate{c, nameOf(c)})
		}
	}
	if len(found) == 0 {
		return nil, errors.New("is not a certificate in PEM: want -----BEGIN CERTIFICATE-----")
	}
	// Decoding passes over what is no block: none of it may be a certificate that is meant.
	if begun := bytes.Count(text, []byte("-----BEGIN ")); begun != blocks {
		return nil, fmt.Errorf("is not a certificate in PEM throughout: of %d that begin, %d cannot be read; each needs lines of its own, without spaces before them", begun, begun-blocks)
	}
	return found, nil
}

// Valid returns an error that names the first certificate that is not valid at the time.
func Valid(certificates []Certificate, now time.Time) error {
	for _, c := range certificates {
		if now.After(c.NotAfter) {
			return fmt.Errorf("certificate %.100q has expired on %s", c.Subject, c.NotAfter.UTC().Format(time.DateOnly))
		}
		if now.Before(c.NotBefore) {
			return fmt.Errorf("certificate %.100q is not valid before %s", c.Subject, c.NotBefore.UTC().Format(time.DateOnly))
		}
	}
	return nil
}

func has(certificates []Certificate, der []byte) bool {
	for _, c := range certificates {
		if bytes.Equal(c.Raw, der) {
			return true
		}
	}
	return false
}

// nameOf returns the name of a certificate's files: acme-root-ca-1a2b3c4d5e6f.
func nameOf(c *x509.Certificate) string {
	called := c.Subject.CommonName
	if called == "" {
		called = strings.Join(c.Subject.Organization, "-")
	}
	var b strings.Builder
	for _, r := range strings.ToLower(called) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == maxCalled {
			break
		}
	}
	sum := sha256.Sum256(c.Raw)
	if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
		b.WriteByte('-')
	}
	return b.String() + hex.EncodeToString(sum[:6])
}

// maxCalled bounds the part of a subject in a file's name.
const maxCalled = 40

// maxPEM bounds a file of certificates, in bytes.
const maxPEM = 1 << 20

// ReadFile returns the certificates of a file, all of which must be valid at the time.
func ReadFile(path string, now time.Time) ([]Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxPEM {
		return nil, fmt.Errorf("is larger than %d bytes", maxPEM)
	}
	found, err := Parse(text)
	if err != nil {
		return nil, err
	}
	if err := Valid(found, now); err != nil {
		return nil, err
	}
	return found, nil
}
