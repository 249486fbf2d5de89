package truststore

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // old stores have it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"unicode/utf16"
)

const (
	// maxIterations bounds what checking a password costs: Java's largest default.
	maxIterations = 100_000
	// maxContents bounds the parts of a store. Java's have two.
	maxContents = 1000
)

// storePassword is the password of the stores of all Java distributions.
const storePassword = "changeit"

var (
	oidData         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidCertBag      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidX509         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}
	oidFriendlyName = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}
	// oidTrusted is Java's. Without it, Java does not take a certificate for a trusted one.
	oidTrusted  = asn1.ObjectIdentifier{2, 16, 840, 1, 113894, 746875, 1, 1}
	oidAnyUsage = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
)

// pkcs12 is a store: contents, and a code that a password makes of them. Stores without a
// password have none.
type pkcs12 struct {
	Version int
	Safe    content
	MAC     mac `asn1:"optional"`
}

type content struct {
	Type asn1.ObjectIdentifier
	Data asn1.RawValue // [0] with the data
}

type mac struct {
	Sum struct {
		Algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Digest []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

type attribute struct {
	ID     asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

type bag struct {
	Kind       asn1.ObjectIdentifier
	Value      asn1.RawValue
	Attributes []attribute `asn1:"set"`
}

// AppendPKCS12 returns a Java key store of the kind PKCS#12 with the certificates that it
// lacks, and the store itself if it lacks none. What the store has is not decrypted; a
// certificate that is encrypted there is added again under its name. An error says what is
// wrong with the store.
func AppendPKCS12(store []byte, certificates []Certificate) ([]byte, error) {
	var p pkcs12
	if rest, err := asn1.Unmarshal(store, &p); err != nil || len(rest) > 0 || p.Version != 3 || !p.Safe.Type.Equal(oidData) {
		return nil, errors.New("is not a Java key store that this server can read")
	}
	var safe []byte
	if _, err := asn1.Unmarshal(p.Safe.Data.Bytes, &safe); err != nil {
		return nil, fmt.Errorf("is not a Java key store that this server can read: %w", err)
	}
	if p.MAC.Iterations > 0 {
		sum, err := p.MAC.sum(safe)
		if err != nil {
			return nil, err
		}
		if !hmac.Equal(sum, p.MAC.Sum.Digest) {
			return nil, errors.New("is damaged, or has another password than changeit")
		}
	}
	contents, err := sequence(safe)
	if err != nil {
		return nil, fmt.Errorf("has contents that cannot be read: %w", err)
	}
	trusted, err := trustedIn(contents)
	if err != nil {
		return nil, err
	}
	var bags []bag
	for _, c := range certificates {
		if trusted[sha256.Sum256(c.Raw)] {
			continue
		}
		b, err := bagOf(c)
		if err != nil {
			return nil, err
		}
		bags = append(bags, b)
	}
	if len(bags) == 0 {
		return store, nil
	}
	more, err := contentOf(bags)
	if err != nil {
		return nil, err
	}
	return p.with(slices.Concat(contents, more))
}

// sequence returns the elements of a sequence as they are encoded.
func sequence(data []byte) ([]byte, error) {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(data, &v)
	if err == nil && (len(rest) > 0 || v.Class != asn1.ClassUniversal || v.Tag != asn1.TagSequence || !v.IsCompound) {
		err = errors.New("no sequence")
	}
	return v.Bytes, err
}

// trustedIn returns the digests of the certificates that unencrypted contents trust. A
// certificate without Java's mark is not trusted.
func trustedIn(contents []byte) (map[[sha256.Size]byte]bool, error) {
	trusted := map[[sha256.Size]byte]bool{}
	for n := 0; len(contents) > 0; n++ {
		if n == maxContents {
			return nil, fmt.Errorf("has more than %d parts", maxContents)
		}
		var element asn1.RawValue
		rest, err := asn1.Unmarshal(contents, &element)
		if err != nil {
			return nil, fmt.Errorf("has contents that cannot be read: %w", err)
		}
		contents = rest
		var part content
		var data []byte
		if _, err := asn1.Unmarshal(element.FullBytes, &part); err != nil || !part.Type.Equal(oidData) {
			continue // encrypted
		}
		if _, err := asn1.Unmarshal(part.Data.Bytes, &data); err != nil {
			continue
		}
		bags, err := sequence(data)
		for err == nil && len(bags) > 0 {
			var b bag
			if bags, err = asn1.Unmarshal(bags, &b); err == nil && b.isTrusted() {
				trusted[sha256.Sum256(b.certificate())] = true
			}
		}
	}
	return trusted, nil
}

func (b bag) isTrusted() bool {
	return b.Kind.Equal(oidCertBag) && slices.ContainsFunc(b.Attributes, func(a attribute) bool { return a.ID.Equal(oidTrusted) })
}

// certificate returns the certificate in the bag; nil if there is none.
func (b bag) certificate() (raw []byte) {
	var c content
	if _, err := asn1.Unmarshal(b.Value.Bytes, &c); err != nil || !c.Type.Equal(oidX509) {
		return nil
	}
	if _, err := asn1.Unmarshal(c.Data.Bytes, &raw); err != nil {
		return nil
	}
	return raw
}

// with returns the store with other contents, the elements of a sequence.
func (p pkcs12) with(contents []byte) ([]byte, error) {
	safe, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: contents})
	if err != nil {
		return nil, err
	}
	if p.Safe.Data, err = inBrackets(safe); err != nil {
		return nil, err
	}
	if p.MAC.Iterations == 0 {
		return asn1.Marshal(struct {
			Version int
			Safe    content
		}{p.Version, p.Safe})
	}
	if p.MAC.Sum.Digest, err = p.MAC.sum(safe); err != nil {
		return nil, err
	}
	return asn1.Marshal(p)
}

// contentOf returns the bags as unencrypted contents.
func contentOf(bags []bag) ([]byte, error) {
	data, err := asn1.Marshal(bags)
	if err != nil {
		return nil, err
	}
	inner, err := inBrackets(data)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(content{oidData, inner})
}

func bagOf(c Certificate) (bag, error) {
	der, err := inBrackets(c.Raw)
	if err != nil {
		return bag{}, err
	}
	inner, err := asn1.Marshal(content{oidX509, der})
	if err != nil {
		return bag{}, err
	}
	usage, err := asn1.Marshal(oidAnyUsage)
	if err != nil {
		return bag{}, err
	}
	return bag{
		Kind:  oidCertBag,
		Value: asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: inner},
		Attributes: []attribute{
			{oidFriendlyName, []asn1.RawValue{{Tag: asn1.TagBMPString, Bytes: bmp(c.Name)}}},
			{oidTrusted, []asn1.RawValue{{FullBytes: usage}}},
		},
	}, nil
}

// inBrackets returns the bytes as an octet string in [0].
func inBrackets(data []byte) (asn1.RawValue, error) {
	octets, err := asn1.Marshal(data)
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: octets}, err
}

// bmp returns a text in UTF-16.
func bmp(text string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = binary.BigEndian.AppendUint16(b, unit)
	}
	return b
}

// sum returns the code of the contents under Java's password: RFC 7292, appendix B, whose
// key is one block long here.
func (m mac) sum(contents []byte) ([]byte, error) {
	algorithm := hashes[m.Sum.Algorithm.ID.String()]
	if algorithm.new == nil {
		return nil, fmt.Errorf("is protected with the algorithm %s, which this server does not know", m.Sum.Algorithm.ID)
	}
	if m.Iterations < 1 || m.Iterations > maxIterations {
		return nil, fmt.Errorf("is protected with %d iterations, and this server takes at most %d", m.Iterations, maxIterations)
	}
	h := algorithm.new()
	h.Write(bytes.Repeat([]byte{3}, algorithm.block))
	h.Write(filled(m.Salt, algorithm.block))
	h.Write(filled(append(bmp(storePassword), 0, 0), algorithm.block))
	key := h.Sum(nil)
	for range m.Iterations - 1 {
		h.Reset()
		h.Write(key)
		key = h.Sum(key[:0])
	}
	code := hmac.New(algorithm.new, key)
	code.Write(contents)
	return code.Sum(nil), nil
}

// filled repeats the bytes until they fill blocks of a size.
func filled(data []byte, block int) []byte {
	if len(data) == 0 {
		return nil
	}
	n := (len(data) + block - 1) / block * block
	return bytes.Repeat(data, n/len(data)+1)[:n]
}

// hashes are the algorithms of codes.
var hashes = map[string]struct {
	new   func() hash.Hash
	block int
}{
	"1.3.14.3.2.26":          {sha1.New, sha1.BlockSize},
	"2.16.840.1.101.3.4.2.1": {sha256.New, sha256.BlockSize},
	"2.16.840.1.101.3.4.2.2": {sha512.New384, sha512.BlockSize},
	"2.16.840.1.101.3.4.2.3": {sha512.New, sha512.BlockSize},
}

// Work returns how many bytes are hashed to extend a Java key store: its own, and those of
// the iterations that it asks for.
func Work(store []byte) int64 {
	var p pkcs12
	if IsJKS(store) {
		return 2 * int64(len(store))
	}
	if _, err := asn1.Unmarshal(store, &p); err != nil {
		return 0
	}
	return 2 * (int64(len(store)) + int64(max(0, min(p.MAC.Iterations, maxIterations)))*sha512.BlockSize)
}

// AppendJava returns a Java key store of any kind with the certificates that it lacks, as
// AppendJKS and AppendPKCS12 do.
func AppendJava(store []byte, certificates []Certificate) ([]byte, error) {
	if IsJKS(store) {
		return AppendJKS(store, certificates)
	}
	return AppendPKCS12(store, certificates)
}
