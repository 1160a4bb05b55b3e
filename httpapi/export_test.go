package httpapi

// IsFast reports whether a request is a fast one.
func IsFast(request string) bool {
	_, ok := parseFast(request)
	return ok
}
