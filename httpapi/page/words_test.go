package page

import (
	"testing"
	"time"
)

func TestInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 ms", 400 * time.Microsecond: "0.4 ms", 12*time.Millisecond + 900*time.Microsecond: "12 ms", 999 * time.Millisecond: "999 ms",
		4199999999: "4.2 s", 9990 * time.Millisecond: "9.9 s", 59999 * time.Millisecond: "59 s", time.Minute: "1 min", 125 * time.Second: "2 min 5 s",
		time.Hour + 59*time.Second: "1 h", 24 * time.Hour: "24 h", 47*time.Hour + 59*time.Minute: "47 h 59 min", 48 * time.Hour: "2 d", 1000*time.Hour + time.Minute: "41 d 16 h",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%s in words is %q, want %q", d, got, want)
		}
	}
}
