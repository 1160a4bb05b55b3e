package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// aliceHash is of "correct horse".
const AliceHash = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"

const OneNode = "\n[[node]]\nname = 'pg1'\nurl = 'http://pg1:8008'\n"

// Files is a file system for parsers.
type Files map[string]string

func (f Files) Read(path string) ([]byte, error) {
	if text, ok := f[path]; ok {
		return []byte(text), nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

// NewFiles has two pairs of a certificate and its key, a token and rubbish.
func NewFiles(t testing.TB) Files {
	line := "alice:" + AliceHash + "\n"
	f := Files{
		"sha1": "alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", "no-colon": line + "canary\n", "no-user": ":" + AliceHash, "twice": line + line, "nobody": "# none\n",
		"slow": strings.Replace(line, "$04$", "$15$", 1), "short": line[:40],
	}
	maps.Copy(f, Files{"token": "secret\n", "two": "secret\nother\n", "empty": "\n", "rubbish": "rubbish", "passwords": "# who may ask\n\nalice:" + AliceHash + "\n"})
	for _, name := range []string{"a", "b"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		f[name+".crt"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
		f[name+".key"] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	return f
}

func WriteFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// AwaitFile waits until a file has the text in it.
func AwaitFile(t testing.TB, path, text string) {
	t.Helper()
	Eventually(t, Soon, func() error {
		got, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return Want(strings.Contains(string(got), text), "%s in %s (got %s)", text, path, got)
	})
}

// Replace edits a configuration, and fails when it has nothing to edit.
func Replace(t *testing.T, text string, oldNew ...string) string {
	t.Helper()
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(text, oldNew[i]) {
			t.Fatalf("%q is not in the configuration", oldNew[i])
		}
		text = strings.ReplaceAll(text, oldNew[i], oldNew[i+1])
	}
	return text
}

// RequireProgram gives the path of a program. Where it is missing the test is
// skipped, unless build.sh said that all is there.
func RequireProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name) // often not in the PATH of users
	}
	switch {
	case err == nil:
	case os.Getenv("PATRONIGLUE_LAB") == "required":
		t.Fatalf("%s is not installed: %v", name, err)
	default:
		t.Skipf("NOT TESTED: %v", err)
	}
	return path
}

// Must runs a command and gives what it printed on both outputs.
func Must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// ReadFile reads a file of the module, or one with an absolute path.
func ReadFile(t *testing.T, path string) string {
	t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(root(), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
