package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// viewParts are the names in the root folder that a View shows: programs, libraries and
// the system's settings.
var viewParts = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt"}

// viewFolder is where the view lies for the command that serves it.
const viewFolder = "/view"

// View is what a guest sees of the host's root: viewParts, and of these what everybody on
// the host may read. The command that serves it sees little more (bubblewrap). The zero
// value is the whole root, without a sandbox.
type View struct {
	// private are files and folders below viewParts that are not for everybody.
	private []string
	on      bool
}

// FindView finds what guests see, by the rules of the sandbox: trusted, as in Find, are their
// kernels. The note tells where there is none.
func FindView(ctx context.Context, trusted bool) (v View, note string, err error) {
	if v.on, _, err = Find(ctx, trusted); err != nil {
		return v, "", fmt.Errorf("a guest that reads the host's root: %w", err)
	}
	if !v.on {
		return v, "without a sandbox the guest can read all that you can, your home folder included", nil
	}
	v.private, err = private(viewParts)
	return v, "", err
}

// Shown says whether a View shows the file that a path leads to.
func Shown(path string) bool {
	inside := func(path string) bool {
		return slices.ContainsFunc(viewParts, func(part string) bool { return Within(path, "/"+part) }) &&
			!slices.ContainsFunc(secrets(), func(s string) bool { return Within(path, s) })
	}
	real, err := filepath.EvalSymlinks(path)
	return err == nil && inside(path) && inside(real)
}

// ViewParts names the folders of the root that a View shows.
func ViewParts() string { return "/" + strings.Join(viewParts, ", /") }

// secrets are what no View shows, whoever may read it.
func secrets() []string { return slices.Concat(hidden, hiddenFiles, userHomes()) }

// private finds what of folders in the root is hidden, or may not be read by everybody.
func private(parts []string) ([]string, error) {
	var tops []string
	for _, part := range parts {
		entries, err := os.ReadDir("/" + part)
		if err != nil {
			continue // it is not there
		}
		// A link leads to another of them.
		if info, err := os.Lstat("/" + part); err != nil || !info.IsDir() {
			continue
		}
		for _, e := range entries {
			tops = append(tops, filepath.Join("/", part, e.Name()))
		}
	}
	found := make([][]string, len(tops))
	var walks errgroup.Group
	for i, top := range tops {
		walks.Go(func() (err error) {
			found[i], err = privateBelow(top)
			return err
		})
	}
	err := walks.Wait()
	return slices.Concat(found...), err
}

func privateBelow(top string) (found []string, err error) {
	secret := secrets()
	err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil && d == nil {
			return err
		}
		info, infoErr := d.Info()
		if errors.Is(infoErr, fs.ErrNotExist) || d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		if infoErr != nil {
			return infoErr
		}
		others := fs.FileMode(0o4)
		if d.IsDir() {
			others = 0o5
		}
		// A folder that cannot be read is none of others', either.
		if err == nil && info.Mode()&others == others && !slices.Contains(secret, path) {
			return nil
		}
		found = append(found, path)
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("what a guest may see of the host's root: %w", err)
	}
	return found, nil
}

// Folder is the folder to serve.
func (v View) Folder() string {
	if v.on {
		return viewFolder
	}
	return "/"
}

// Command is what a command line begins with that serves the view. The command sees the
// view, some paths that it may read, a folder that it works in and may change, and no
// network unless it is asked for.
func (v View) Command(command string, read []string, folder string, network bool) ([]string, error) {
	if !v.on {
		return []string{command}, nil
	}
	line := []string{sandboxCommand, "--unshare-all"}
	if network {
		line = append(line, "--share-net")
	}
	line = append(line, "--as-pid-1", "--die-with-parent", "--cap-drop", "ALL", "--dev", "/dev", "--dev-bind-try", "/dev/kvm", "/dev/kvm", "--proc", "/proc", "--tmpfs", "/tmp")
	for _, part := range viewParts {
		info, err := os.Lstat("/" + part)
		if err != nil {
			continue
		}
		target, err := os.Readlink("/" + part)
		switch {
		case err == nil:
			line = append(line, "--symlink", target, filepath.Join(viewFolder, part))
		case info.IsDir():
			line = append(line, "--ro-bind", "/"+part, filepath.Join(viewFolder, part))
		default:
			continue
		}
		line = append(line, "--symlink", strings.TrimPrefix(filepath.Join(viewFolder, part), "/"), "/"+part)
	}
	for _, path := range v.private {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("what a guest may see of the host's root: %w", err)
		case info.IsDir():
			line = append(line, "--tmpfs", viewFolder+path)
		default:
			line = append(line, "--ro-bind", "/dev/null", viewFolder+path)
		}
	}
	binary, err := exec.LookPath(command)
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(binary); err == nil && !Shown(binary) {
		read = append(slices.Clip(read), toolchain(real), filepath.Dir(binary))
	}
	for _, path := range read {
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		line = append(line, "--ro-bind", path, path)
	}
	here := folder
	if !filepath.IsAbs(folder) {
		here = "/here"
	}
	return append(line, "--bind", folder, here, "--chdir", here,
		"--clearenv", "--setenv", "PATH", os.Getenv("PATH"), "--setenv", "LC_ALL", "C", "--setenv", "TMPDIR", "/tmp", "--", command), nil
}
