package harness

import (
	"testing"

	"patroniglue/contrib/lab"
)

// Core runs a test of the end-to-end core with the real parts of each suite that
// ./build.sh test covers, side by side.
func Core(t *testing.T, test func(t *testing.T, s lab.Suite)) {
	t.Helper()
	over(t, lab.Suites(), test)
}

// Matrix runs a test with the real parts of one suite, and of every suite in
// ./build.sh matrix.
func Matrix(t *testing.T, test func(t *testing.T, s lab.Suite)) {
	t.Helper()
	over(t, lab.Matrix(), test)
}

func over(t *testing.T, suites []lab.Suite, test func(t *testing.T, s lab.Suite)) {
	t.Helper()
	for _, s := range suites {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}
