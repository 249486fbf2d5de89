package auth

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/waveproxy/waveproxy/internal/brief"
)

// TokenLength is the number of characters of every Token.
const TokenLength = 39

// Token names a grant inside a repository path: 39 characters of a-z and 2-7,
// which every registry client accepts as a path component. Its holder may pull
// until it expires, so it belongs neither in logs nor in errors: they show Short
// instead.
type Token string

// Errors of Tokens and Decode. The errors returned wrap these and say more;
// none of them contains the token.
var (
	// ErrUnknownToken is a token that is malformed, forged, signed with a key
	// this server does not have, or whose grant is no longer stored.
	ErrUnknownToken = errors.New("unknown token")
	// ErrExpiredToken is a genuine token past its expiry.
	ErrExpiredToken = errors.New("token expired")
	// ErrRevokedToken is a genuine token that was revoked.
	ErrRevokedToken = errors.New("token revoked")
	// ErrDamagedGrant is a genuine token whose stored grant does not open. The next
	// Mint of the same grant stores it anew.
	ErrDamagedGrant = errors.New("the token's grant is damaged")
)

// Error says why a token cannot be minted as asked. Its text is meant for the
// caller and holds no secret.
type Error struct{ reason string }

func (e *Error) Error() string { return e.reason }

func refuse(format string, args ...any) error {
	return &Error{reason: brief.Sprintf(format, args...)}
}

// Short returns the first 8 hexadecimal digits of the token's SHA-256, which
// identify it in logs. The name of a revocation marker starts with the same digits.
func (t Token) Short() string { return t.hash()[:8] }

// LogValue returns Short, so that a token given to slog by mistake does not leak.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.Short()) }

func (t Token) hash() string {
	sum := sha256.Sum256([]byte(t))
	return hex.EncodeToString(sum[:])
}

// Claims are the parts of a token that can be read without a key. They are not
// verified.
type Claims struct {
	Version int
	KeyID   int       // 0 to 15; keys may share an id
	Expires time.Time // UTC, whole minutes; the first moment the token is refused
	Grant   string    // hexadecimal id of the grant: the last part of its record's name
}

// Decode returns the claims of a token without verifying it. A text that is no
// token is ErrUnknownToken.
func Decode(t Token) (Claims, error) {
	r, err := parse(t)
	if err != nil {
		return Claims{}, err
	}
	return Claims{
		Version: int(r[0] >> 4),
		KeyID:   int(r.keyID()),
		Expires: r.expires(),
		Grant:   r.grant().String(),
	}, nil
}

const tokenVersion = 1

// epoch is the zero of the expiry. Three bytes of minutes last until late 2051.
var epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

const lastMinute = 1<<24 - 1

// rawToken is a token as bytes:
//
//	 0  version in the high 4 bits, key id in the low 4
//	 1  expiry in minutes since epoch, big endian
//	 4  grant id
//	16  MAC of the bytes before it
type rawToken [24]byte

const (
	grantOffset = 4
	macOffset   = 16
)

func (r rawToken) keyID() byte { return r[0] & 0x0f }

func (r rawToken) expires() time.Time {
	minutes := binary.BigEndian.Uint32(r[0:4]) & lastMinute
	return epoch.Add(time.Duration(minutes) * time.Minute)
}

func (r rawToken) grant() grantID { return grantID(r[grantOffset:macOffset]) }

// record returns the name of the grant's record.
func (r rawToken) record() string { return r.grant().record(r.expires()) }

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (r rawToken) encode() Token { return Token(encoding.EncodeToString(r[:])) }

// parse accepts exactly one text for each rawToken: 39 characters carry 3 spare
// bits and the decoder skips line breaks, and two spellings of one token would
// be two tokens to caches and revocation markers.
func parse(t Token) (rawToken, error) {
	b, err := encoding.DecodeString(string(t))
	if err != nil || len(b) != len(rawToken{}) || rawToken(b).encode() != t {
		return rawToken{}, fmt.Errorf("%w: not 39 characters of a-z and 2-7 as this server writes them", ErrUnknownToken)
	}
	r := rawToken(b)
	if v := r[0] >> 4; v != tokenVersion {
		return rawToken{}, fmt.Errorf("%w: version %d, want %d", ErrUnknownToken, v, tokenVersion)
	}
	return r, nil
}
