package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/pack"
)

// BenchmarkOpen opens tokens: a remembered token, as on every request of a pull
// but the first; many in turn, so that each is read and decrypted anew; and a
// token with a wrong signature.
func BenchmarkOpen(b *testing.B) {
	key, err := auth.ParseKey([]byte(base64.StdEncoding.EncodeToString(make([]byte, 32))))
	if err != nil {
		b.Fatal(err)
	}
	tokens, err := auth.NewTokens(auth.TokensOptions{Keys: []auth.Key{key}, Records: records{}})
	if err != nil {
		b.Fatal(err)
	}
	// More tokens than any cache holds.
	minted := make([]auth.Token, 5000)
	for i := range minted {
		minted[i], _, err = tokens.Mint(b.Context(), grant(i), 0)
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tokens.Open(b.Context(), minted[0]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := tokens.Open(b.Context(), minted[i%len(minted)]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("forged", func(b *testing.B) {
		forged := minted[0][:auth.TokenLength-1] + "a"
		if forged == minted[0] {
			forged = minted[0][:auth.TokenLength-1] + "i"
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tokens.Open(b.Context(), forged); !errors.Is(err, auth.ErrUnknownToken) {
				b.Fatal(err)
			}
		}
	})
}

// grant returns the grant of an image of usual size.
func grant(i int) auth.Grant {
	g := auth.Grant{
		Image: "docker.io/library/ubuntu", Tag: fmt.Sprint(i), Base: digest.FromString("base"),
		Root:      ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("root"), Size: 1234},
		Platforms: []string{"linux/amd64"},
	}
	for n := range 5 {
		g.Objects = append(g.Objects, digest.FromString(fmt.Sprint("object", n)))
	}
	g.Injected = []digest.Digest{digest.FromString("layer")}
	return g
}

// records is a store in memory. It is not safe for concurrent writes.
type records map[string][]byte

func (r records) Record(_ context.Context, name string) ([]byte, error) {
	data, ok := r[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return data, nil
}

func (r records) PutRecord(_ context.Context, name string, data []byte) error {
	r[name] = data
	return nil
}

func (r records) PutPack(ctx context.Context, name string, data []byte, _ []pack.Part) error {
	return r.PutRecord(ctx, name, data)
}
