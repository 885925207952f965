package kernel

import (
	"errors"
	"strings"
	"syscall"
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
