package auth

// hidden keeps a secret out of what is printed of the values that hold it. They
// may be in fields where fmt calls no Format and looks behind pointers; of a
// function it shows the address alone, and JSON has no place for one.
type hidden[T any] func() T

func hide[T any](v T) hidden[T] { return func() T { return v } }
