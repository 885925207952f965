package patches

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize/english"
)

// Plural counts things as prose does: "1 patch", "2 patches".
func Plural(n int, what string) string {
	return fmt.Sprintf("%d %s", n, english.PluralWord(n, what, ""))
}

// JoinAnd writes a list as prose does: "base, posted and fixed".
func JoinAnd(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}
