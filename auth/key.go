package auth

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/waveproxy/waveproxy/internal/durable"
)

// Key signs tokens and encrypts grants. Printed with any verb it shows its id
// only. The zero Key is not usable.
type Key struct {
	id       byte // low 4 bits; tells replicas which key to try, not unique
	tokenMAC []byte
	grantMAC []byte
	aead     cipher.AEAD
}

const secretSize = 32 // bytes, at least

// ParseKey reads a secret as one line of base64, at least 32 bytes of it, as
// "openssl rand -base64 32" prints it. Errors never show the text. File modes
// are not looked at: secrets that Kubernetes mounts are readable by all.
func ParseKey(text []byte) (Key, error) {
	text = bytes.TrimSpace(text)
	if bytes.ContainsAny(text, "\r\n") { // the decoder would skip them and join two keys into one
		return Key{}, errors.New("key has more than one line: want one line of base64")
	}
	secret, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return Key{}, errors.New("key is not base64: want the output of openssl rand -base64 32")
	}
	if len(secret) < secretSize {
		return Key{}, fmt.Errorf("key has %d bytes, want at least %d: make one with openssl rand -base64 32", len(secret), secretSize)
	}
	return newKey(secret)
}

// newKey derives a subkey for every use, so that no use can weaken another.
func newKey(secret []byte) (Key, error) {
	var subkeys [4][]byte
	for i, info := range []string{
		"waveproxy v1 key id", "waveproxy v1 token mac", "waveproxy v1 grant id", "waveproxy v1 grant encryption",
	} {
		var err error
		if subkeys[i], err = hkdf.Key(sha256.New, secret, nil, info, 32); err != nil {
			return Key{}, fmt.Errorf("derive key: %w", err)
		}
	}
	block, err := aes.NewCipher(subkeys[3])
	if err != nil {
		return Key{}, fmt.Errorf("derive key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return Key{}, fmt.Errorf("derive key: %w", err)
	}
	return Key{id: subkeys[0][0] & 0x0f, tokenMAC: subkeys[1], grantMAC: subkeys[2], aead: aead}, nil
}

// Format keeps the secrets out of every fmt verb.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "key(id %d)", k.id) }

func truncatedMAC(key, data []byte, size int) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(nil)[:size]
}

// sign makes the token for a grant; minutes count from epoch.
func (k Key) sign(id grantID, minutes int64) Token {
	var r rawToken
	binary.BigEndian.PutUint32(r[:], uint32(minutes))
	r[0] = k.header()
	copy(r[grantOffset:], id[:])
	copy(r[macOffset:], truncatedMAC(k.tokenMAC, r[:macOffset], len(r)-macOffset))
	return r.encode()
}

func (k Key) verifies(r rawToken) bool {
	return k.id == r.keyID() &&
		hmac.Equal(r[macOffset:], truncatedMAC(k.tokenMAC, r[:macOffset], len(r)-macOffset))
}

// header is the first byte of tokens and records.
func (k Key) header() byte { return tokenVersion<<4 | k.id }

// LoadOrCreateKey reads the key in the file, or makes one there first, durable
// and with mode 0600. Processes that start at once end with the same key. A
// file that other users can read is refused. A file that its group can read is not,
// because Kubernetes opens the files of a volume with an fsGroup to that group.
// For a key made elsewhere there is ParseKey. tempDir has the unfinished file; the
// caller removes what a crash leaves there (durable.RemoveStale).
func LoadOrCreateKey(path, tempDir string) (Key, error) {
	k, err := loadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(path, tempDir); err != nil {
			return Key{}, fmt.Errorf("create key file %s: %w", path, err)
		}
		k, err = loadKey(path)
	}
	// Without hard links, the process that makes the file may not have filled it yet.
	for range 10 {
		if !errors.Is(err, errEmptyKey) {
			break
		}
		time.Sleep(emptyKeyPause)
		k, err = loadKey(path)
	}
	if err != nil {
		return Key{}, fmt.Errorf("read key file %s: %w", path, err)
	}
	return k, nil
}

// errEmptyKey is the error for a file that a crash may have left.
var errEmptyKey = errors.New("key has 0 bytes, as a crash may leave it: remove the file, and a new key is made")

const emptyKeyPause = 100 * time.Millisecond

func loadKey(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Key{}, err
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return Key{}, fmt.Errorf("its mode is %#o, so other users have access: chmod 600 it", mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return Key{}, err
	}
	if len(text) == 0 {
		return Key{}, errEmptyKey
	}
	return ParseKey(text)
}

// createKey puts a new key at path unless another process was first.
func createKey(path, tempDir string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := durable.CreateTemp(tempDir) // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()

	secret := make([]byte, secretSize)
	rand.Read(secret) // never fails
	if _, err := fmt.Fprintln(tmp, base64.StdEncoding.EncodeToString(secret)); err != nil {
		return err
	}
	return durable.Create(tmp, path)
}
