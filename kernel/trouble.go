package kernel

import (
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"syscall"

	"patchproof/kernel/sandbox"
)

// isLocalTrouble reports whether an error is this machine's storage: another
// source or another patch would not help. Commands only tell it in words.
func isLocalTrouble(err error) bool {
	if err == nil {
		return false
	}
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		if errors.Is(err, errno) || strings.Contains(err.Error(), errno.Error()) ||
			strings.Contains(strings.ToLower(err.Error()), errno.Error()) {
			return true
		}
	}
	// git fast-import's own words for ENOSPC.
	return strings.Contains(err.Error(), "Out of diskspace")
}

// UnfitError is a patch that cannot be tested, on whatever machine: its file is none, or it changes
// nothing.
type UnfitError struct{ Err error }

func (e *UnfitError) Error() string { return e.Err.Error() }
func (e *UnfitError) Unwrap() error { return e.Err }

// AboutPatch says whether an error is an answer about the patch, which another try would give
// again, and not trouble of this machine.
func AboutPatch(err error) bool {
	var errno syscall.Errno
	if errors.As(err, &errno) || isLocalTrouble(err) {
		return false
	}
	var unfit *UnfitError
	var apply *ApplyError
	return errors.As(err, &unfit) || errors.As(err, &apply)
}

// damage is how git tells of a repository whose files are not what it wrote.
var damage = regexp.MustCompile(`corrupt (?:loose|object|pack|index|tree)|(?:is|file|header|entry|object) corrupt|corrupted|object file|index file|bad signature|bad index|unable to (?:read|unpack|resolve)|inflate|(?:bad|broken|missing) (?:object|ref|tree|blob|commit|config)|reference broken|[Nn]ot a valid object|invalid sha1|invalid object|garbage at end|bad pack|packfile|index-pack|pack has|could not (?:parse|read) (?:commit|tree|object|HEAD)|not a git repository|unknown index entry|hash mismatch|sha1 mismatch|loose object|premature end|your current branch appears`)

// damagedRepository reports whether a git command failed in a repository of the
// cache in a way that no patch can bring about.
func damagedRepository(err error) bool {
	var failed *sandbox.FailedCommand
	if !errors.As(err, &failed) || isLocalTrouble(err) || !strings.HasPrefix(failed.Line, "git ") {
		return false
	}
	for _, elsewhere := range []string{" fast-import ", " fetch "} {
		// What is wrong then is where the source comes from.
		if strings.Contains(failed.Line, elsewhere) {
			return false
		}
	}
	// 128 is git's own, fatal, end.
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 128 || damage.MatchString(failed.Said)
}
