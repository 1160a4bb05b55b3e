package node

import (
	"fmt"
	"testing"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1048576": 1 << 20, "16kB": 16 << 10, "16KB": 16 << 10, "16kb": 16 << 10, "10MB": 10 << 20, "10mb": 10 << 20,
		"1.5MB": 3 << 19, "5 MB": 5 << 20, " 2GB\t": 2 << 30, "1TB": 1 << 40, "7B": 7, ".5kB": 512, "1.": 1, "0.9": 0, "010": 10,
		"0x10": 16, "0X1b": 27, "9223372036854775807": 1<<63 - 1, "9007199254740993": 1<<53 + 1, "8388607TB": 8388607 << 40,
	} {
		if got, err := ParseSize(in); got != want || err != nil {
			t.Errorf("%q is %d (%v), want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", " ", "B", "kB", "-1", "+1", "1e3", "1_000", "0x", "0x10kB", "0x1p4", "0b1", "1k", "1M", "1 PB", "1.5.5", ".", "junk", "inf", "NaN",
		"9223372036854775808", "8388608TB", "99999999999999999999GB", "8388608.0TB",
	} {
		want := fmt.Sprintf("want bytes such as 1048576, 16kB, 1.5MB or 2GB (got %q)", in)
		if got, err := ParseSize(in); err == nil || err.Error() != want {
			t.Errorf("%q is %d and error\n%v, want\n%s", in, got, err, want)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for in, want := range map[int64]string{
		0: "0 B", -1: "-1 B", 1023: "1023 B", 1024: "1.0 kB", 1536: "1.5 kB", 10 << 10: "10 kB", 1<<20 - 1: "1023 kB",
		1 << 20: "1.0 MB", 212 << 20: "212 MB", 3 << 29: "1.5 GB", 16 << 30: "16 GB", 2 << 40: "2.0 TB", 1<<63 - 1: "8388607 TB",
	} {
		if got := FormatSize(in); got != want {
			t.Errorf("%d is %q, want %q", in, got, want)
		}
	}
}
