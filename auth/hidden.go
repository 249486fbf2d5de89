package auth

// hidden keeps a secret out of the printed form of the values that hold it. In
// unexported fields fmt calls no Format method and follows pointers. Of a function
// it prints only the address, and JSON cannot encode one.
type hidden[T any] func() T

func hide[T any](v T) hidden[T] { return func() T { return v } }
