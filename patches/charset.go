package patches

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
)

// encodingOf finds a charset by the names that mails use; nil for UTF-8, for ASCII
// and for a name that nobody knows.
func encodingOf(charset string) encoding.Encoding {
	charset = strings.ToLower(strings.Trim(charset, ` "'`))
	switch charset {
	case "", "utf-8", "utf8", "us-ascii", "ascii", "unknown-8bit":
		return nil
	case "latin1", "latin-1", "iso8859-1":
		return charmap.ISO8859_1
	case "gb2312", "gbk", "x-gbk", "cp936":
		charset = "gb18030"
	}
	if number, found := strings.CutPrefix(charset, "cp125"); found {
		charset = "windows-125" + number
	}
	if number, found := strings.CutPrefix(charset, "iso8859-"); found {
		charset = "iso-8859-" + number
	}
	if e, err := ianaindex.MIME.Encoding(charset); err == nil && e != nil {
		return e
	}
	if e, err := htmlindex.Get(charset); err == nil {
		return e
	}
	return nil
}

// toUTF8 converts prose, never a diff. What says nothing and is not UTF-8 is
// mostly Latin-1 on the lists; git takes it for that, too.
func toUTF8(s, charset string) string {
	if e := encodingOf(charset); e != nil {
		if out, err := e.NewDecoder().String(s); err == nil {
			return out
		}
	}
	if utf8.ValidString(s) {
		return s
	}
	// Latin-1 maps every byte.
	out, _ := charmap.ISO8859_1.NewDecoder().String(s)
	return out
}

// charsetReader is for the words of a header, which name their charset.
func charsetReader(charset string, input io.Reader) (io.Reader, error) {
	e := encodingOf(charset)
	if e == nil {
		return nil, fmt.Errorf("unknown charset %q", charset)
	}
	return e.NewDecoder().Reader(input), nil
}
