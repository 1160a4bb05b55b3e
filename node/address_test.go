package node

import (
	"net/url"
	"testing"
)

func TestAddress(t *testing.T) {
	for _, same := range [][]string{
		{"http://pg1:8008", "http://PG1:8008/", "https://pg1.:8008", "http://pg1:08008"},
		{"http://10.0.0.11", "http://10.0.0.11:80", "http://[::ffff:10.0.0.11]:80"},
		{"https://[2001:db8::1]", "https://[2001:DB8:0::1]:443"},
		{"http://glue:8009/node/pg1", "http://glue:8009/node/pg1/"},
		{"http://glue:8009/node/pg2"},
	} {
		for _, text := range same {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			first, _ := url.Parse(same[0])
			if got, want := Address(u), Address(first); got != want {
				t.Errorf("%s: %s, want %s", text, got, want)
			}
		}
	}
}
