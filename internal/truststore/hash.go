package truststore

import (
	"crypto/sha1" //nolint:gosec // OpenSSL's name of a file, not a signature
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// Hash returns the name under which OpenSSL looks for the certificate in a directory of
// certificates, without the number behind it: "openssl x509 -hash" prints the same.
func (c Certificate) Hash() (string, error) {
	var name []asn1.RawValue // sets of attributes
	if _, err := asn1.Unmarshal(c.RawSubject, &name); err != nil {
		return "", fmt.Errorf("subject of certificate %s: %w", c.Name, err)
	}
	var canonical []byte
	for _, set := range name {
		attributes, err := canonicalSet(set.Bytes)
		if err != nil {
			return "", fmt.Errorf("subject of certificate %s: %w", c.Name, err)
		}
		encoded, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: attributes})
		if err != nil {
			return "", err
		}
		canonical = append(canonical, encoded...)
	}
	sum := sha1.Sum(canonical) //nolint:gosec // as above
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(sum[:4])), nil
}

// canonicalSet returns the attributes of a set in the form that OpenSSL compares.
func canonicalSet(set []byte) ([]byte, error) {
	var all [][]byte
	for len(set) > 0 {
		var attribute struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue
		}
		var err error
		if set, err = asn1.Unmarshal(set, &attribute); err != nil {
			return nil, err
		}
		attribute.Value = canonicalValue(attribute.Value)
		encoded, err := asn1.Marshal(attribute)
		if err != nil {
			return nil, err
		}
		all = append(all, encoded)
	}
	slices.SortFunc(all, func(a, b []byte) int { return strings.Compare(string(a), string(b)) })
	return slices.Concat(all...), nil
}

// canonicalValue returns a text in UTF-8, lower case and without superfluous spaces, and
// any other value as it is. OpenSSL changes ASCII letters only.
func canonicalValue(v asn1.RawValue) asn1.RawValue {
	const visible, universal = 26, 28
	text := string(v.Bytes)
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, visible:
	case asn1.TagT61String: // Latin-1 in practice
		var b strings.Builder
		for _, c := range v.Bytes {
			b.WriteRune(rune(c))
		}
		text = b.String()
	case asn1.TagBMPString:
		var units []uint16
		for i := 0; i+1 < len(v.Bytes); i += 2 {
			units = append(units, binary.BigEndian.Uint16(v.Bytes[i:]))
		}
		text = string(utf16.Decode(units))
	case universal:
		var b strings.Builder
		for i := 0; i+3 < len(v.Bytes); i += 4 {
			b.WriteRune(rune(binary.BigEndian.Uint32(v.Bytes[i:])))
		}
		text = b.String()
	default:
		return v
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' })
	text = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, strings.Join(words, " "))
	return asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(text)}
}
