package httpapi

// IsPlain says whether a request may go the short way.
func IsPlain(request string) bool {
	_, ok := parsePlain(request)
	return ok
}
