package lab

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// harnessParts are what of a checkout decides a verdict, beside the kernel.
var harnessParts = []string{"go.mod", "go.sum", "cmd", "guest", "kernel", "patches", "results", "vmtest"}

// harness is a hash of the checkout: of the sources of this command and of the guest's
// programs, and of the data that both read. It is the same on every machine.
func harness(root string) (string, error) {
	out := filepath.Join(root, "results", "out")
	sum := sha256.New()
	for _, part := range harnessParts {
		err := filepath.WalkDir(filepath.Join(root, part), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path == out:
				return fs.SkipDir
			case !d.Type().IsRegular():
				return nil
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			file := sha256.New()
			if _, err := io.Copy(file, f); err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			fmt.Fprintf(sum, "%q %x\n", filepath.ToSlash(name), file.Sum(nil))
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:16]), nil
}
