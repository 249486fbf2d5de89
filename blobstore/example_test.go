package blobstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
)

// A blob is stored under its digest and read again. Bytes with another digest
// are refused.
func ExampleStore() {
	ctx := context.Background()
	var store blobstore.Store = blobstore.NewMem() // or NewDir, whose blobs outlive the process

	d := digest.FromString("a layer")
	if err := store.Put(ctx, d, strings.NewReader("a layer")); err != nil {
		fmt.Println(err)
		return
	}
	blob, err := store.Open(ctx, d)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer blob.Close()
	text, err := io.ReadAll(blob)
	fmt.Println(string(text), err)

	err = store.Put(ctx, digest.FromString("this"), strings.NewReader("that"))
	fmt.Println(errors.Is(err, blobstore.ErrMismatch))
	_, err = store.Open(ctx, digest.FromString("this"))
	fmt.Println(errors.Is(err, blobstore.ErrNotFound))
	// Output:
	// a layer <nil>
	// true
	// true
}

// A handler answers a request for a range of a blob.
func ExampleServe() {
	store := blobstore.NewMem()
	desc := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("a layer"), Size: int64(len("a layer"))}
	if err := store.Put(context.Background(), desc.Digest, strings.NewReader("a layer")); err != nil {
		fmt.Println(err)
		return
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := blobstore.Serve(w, r, store, desc); err != nil {
			http.Error(w, "not found", http.StatusNotFound) // nothing has been written yet
		}
	})

	r := httptest.NewRequest(http.MethodGet, "/blob", nil)
	r.Header.Set("Range", "bytes=2-")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("Content-Range"), w.Body)
	// Output: 206 bytes 2-6/7 layer
}
