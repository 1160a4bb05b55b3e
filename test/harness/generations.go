package harness

import (
	"io"
	"os"
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

// RequireProgramOf makes sure that a program of the suite can be run. Where it cannot the
// test is skipped, unless build.sh said that all is there.
func RequireProgramOf(t testing.TB, s lab.Suite, name string) {
	t.Helper()
	if s.String() == lab.Bookworm.String() {
		RequireProgram(t, name)
		return
	}
	switch err := s.Make(t.Context(), io.Discard); {
	case err == nil:
	case os.Getenv("PATRONIGLUE_LAB") == "required":
		t.Fatal(err)
	default:
		t.Skipf("NOT TESTED: %v", err)
	}
}
