// Package jsonlimit tells what decoding a JSON document would cost, before
// anything is decoded.
//
// A few bytes of JSON can become hundreds of bytes of memory: "{}," in an array
// of descriptors is 3 bytes on the wire and 128 in memory. Limits on the bytes of
// a document therefore bound nothing; limits on its elements do.
package jsonlimit

import (
	"bytes"
	"fmt"
)

// maxDepth bounds how deep documents nest. Real ones have less than ten levels.
const maxDepth = 1000

// Count returns the elements of a document: opening brackets and commas outside
// of strings, plus one. It allocates nothing, takes one pass and accepts text that
// is not JSON, for which the decoder finds the words. deepest is the largest
// number of brackets that are open at once.
func Count(data []byte) (elements, deepest int) {
	elements = 1
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = skipString(data, i+1)
		case ',':
			elements++
		case '[', '{':
			elements++
			depth++
			deepest = max(deepest, depth)
		case ']', '}':
			depth--
		}
	}
	return elements, deepest
}

// skipString returns the index of the quote that ends the string.
func skipString(data []byte, i int) int {
	start := i
	for {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			return len(data)
		}
		end := i + n
		escapes := 0
		for j := end - 1; j >= start && data[j] == '\\'; j-- {
			escapes++
		}
		if escapes%2 == 0 {
			return end
		}
		i = end + 1
		start = i // what was looked at is not looked at again
	}
}

// Check returns an error if the document has more than limit elements, or nests
// deeper than any real one.
func Check(data []byte, limit int) error {
	_, err := Elements(data, limit)
	return err
}

// Elements is Check, and returns the number of elements.
func Elements(data []byte, limit int) (int, error) {
	elements, deepest := Count(data)
	if elements > limit {
		return elements, fmt.Errorf("the document has %d elements, at most %d are read", elements, limit)
	}
	if deepest > maxDepth {
		return elements, fmt.Errorf("the document nests %d levels deep, at most %d are read", deepest, maxDepth)
	}
	return elements, nil
}
