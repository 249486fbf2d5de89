package truststore

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the format's own
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

const (
	jksMagic   = "\xfe\xed\xfe\xed"
	jksVersion = 2
	jksTrusted = 2 // the tag of a certificate
	jksHeader  = 12
	jksType    = "X.509"
)

// jksPassword is the password of the stores of all Java distributions, as Java writes
// it into the store's digest.
const jksPassword = "\x00c\x00h\x00a\x00n\x00g\x00e\x00i\x00t"

// IsJKS reports whether the bytes begin like a Java key store of the old kind.
func IsJKS(store []byte) bool { return bytes.HasPrefix(store, []byte(jksMagic)) }

// AppendJKS returns a Java key store with the certificates that it lacks, and the store
// itself if it lacks none. An error says what is wrong with the store.
func AppendJKS(store []byte, certificates []Certificate) ([]byte, error) {
	if len(store) < jksHeader+sha1.Size || !IsJKS(store) || binary.BigEndian.Uint32(store[4:]) != jksVersion {
		return nil, errors.New("is not a Java key store of version 2")
	}
	body, sum := store[:len(store)-sha1.Size], store[len(store)-sha1.Size:]
	if !hmac.Equal(jksSum(body), sum) {
		return nil, errors.New("is damaged, or has another password than changeit")
	}
	count := binary.BigEndian.Uint32(body[8:])
	trusted, ok := jksTrustedIn(body[jksHeader:], count)
	if !ok {
		return nil, errors.New("has entries that cannot be read")
	}
	added := slices.Clone(body)
	for _, c := range certificates {
		if trusted[sha256.Sum256(c.Raw)] {
			continue
		}
		added = binary.BigEndian.AppendUint32(added, jksTrusted)
		added = appendText(added, c.Name)
		added = binary.BigEndian.AppendUint64(added, uint64(c.NotBefore.UnixMilli())) // when it was added, without a clock
		added = appendText(added, jksType)
		added = binary.BigEndian.AppendUint32(added, uint32(len(c.Raw)))
		added = append(added, c.Raw...)
		count++
	}
	if len(added) == len(body) {
		return store, nil
	}
	if count > 1<<20 {
		return nil, fmt.Errorf("has %d entries", count)
	}
	binary.BigEndian.PutUint32(added[8:], count)
	return append(added, jksSum(added)...), nil
}

// jksTrustedIn returns the digests of the certificates that the entries of a store trust. A
// certificate in the chain of a private key is not trusted because of that.
func jksTrustedIn(entries []byte, count uint32) (trusted map[[sha256.Size]byte]bool, ok bool) {
	trusted, ok = map[[sha256.Size]byte]bool{}, true
	next := func(n uint64) (b []byte) {
		if ok = ok && n <= uint64(len(entries)); ok {
			b, entries = entries[:n], entries[n:]
		}
		return b
	}
	number := func(size int) (n uint64) {
		for _, b := range next(uint64(size)) {
			n = n<<8 | uint64(b)
		}
		return n
	}
	for ; count > 0 && ok; count-- {
		tag := number(4)
		next(number(2)) // the entry's name
		next(8)         // its date
		chain := uint64(1)
		if tag != jksTrusted {
			next(number(4)) // the private key
			chain = number(4)
		}
		for ; chain > 0 && ok; chain-- {
			next(number(2)) // the kind of certificate
			if raw := next(number(4)); tag == jksTrusted {
				trusted[sha256.Sum256(raw)] = true
			}
		}
	}
	return trusted, ok && len(entries) == 0
}

func appendText(b []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
}

func jksSum(body []byte) []byte {
	h := sha1.New() //nolint:gosec // the format's own
	h.Write([]byte(jksPassword + "Mighty Aphrodite"))
	h.Write(body)
	return h.Sum(nil)
}
