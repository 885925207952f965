package console

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"unicode/utf16"
)

var (
	// transfer is the header of a mail, or of a part of one, that tells how its text is encoded.
	transfer = regexp.MustCompile(`(?im)^Content-Transfer-Encoding: *"?(quoted-printable|base64|[78]bit|binary)`)
	// softBreak is where quoted-printable goes on in the next line, which no kernel's line looks
	// like, and quotedByte what it makes of the signs that it needs.
	softBreak  = regexp.MustCompile(`(?m)[^=\s]=\r?$`)
	quotedByte = regexp.MustCompile(`=(?:3D|20|09|\r?\n)`)
)

// asWritten undoes, where the head of a log shows it, what a mail, a cloud or an editor has made of
// the bytes of the log.
func asWritten(in *bufio.Reader) (*bufio.Reader, error) {
	head, err := in.Peek(peekBytes)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch ends := bytes.Count(head, []byte(`\n`)); {
	case bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")):
		return bufio.NewReaderSize(&wide{in: in, little: head[0] == 0xff}, peekBytes), nil
	case ends > 3 && ends > 4*bytes.Count(head, []byte("\n")):
		return bufio.NewReaderSize(unescaped{in}, peekBytes), nil
	case transfer.Match(head):
		return bufio.NewReaderSize(&mailed{in: in}, peekBytes), nil
	case len(softBreak.FindAllIndex(head, 2)) == 2 && quotedByte.Match(head):
		return bufio.NewReaderSize(&mailed{in: in, encoding: "quoted-printable"}, peekBytes), nil
	}
	return in, nil
}

// mailed is a log in a mail as it was sent, or in an attachment of it.
type mailed struct {
	in *bufio.Reader
	// next is the encoding of what comes behind the header that is being read.
	next, encoding string
	out            []byte
}

func (m *mailed) Read(p []byte) (int, error) {
	for len(m.out) == 0 {
		line, more, err := m.in.ReadLine()
		if err != nil {
			return 0, err
		}
		m.out = m.decode(line, !more)
	}
	n := copy(p, m.out)
	m.out = m.out[n:]
	return n, nil
}

// decode is what a line, or the part of one that the buffer holds, says.
func (m *mailed) decode(line []byte, whole bool) []byte {
	text := string(line)
	if whole {
		text += "\n"
	}
	if h := transfer.FindStringSubmatch(text); h != nil {
		m.next = strings.ToLower(h[1])
		return []byte(text)
	}
	switch {
	case m.next != "" && strings.TrimSpace(text) == "":
		m.encoding, m.next = m.next, ""
	case strings.HasPrefix(text, "--") && m.encoding == "base64":
		// The end of a part.
		m.encoding = ""
	case m.encoding == "base64":
		if said, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil {
			return said
		}
	case m.encoding == "quoted-printable":
		if said, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(text))); err == nil {
			return said
		}
	}
	return []byte(text)
}

// wide is a log in UTF-16, as PowerShell redirects what a program prints.
type wide struct {
	in     *bufio.Reader
	little bool
	out    []byte
}

func (w *wide) Read(p []byte) (int, error) {
	var pair [2]byte
	for len(w.out) == 0 {
		if _, err := io.ReadFull(w.in, pair[:]); err != nil {
			return 0, io.EOF
		}
		unit := uint16(pair[0])<<8 | uint16(pair[1])
		if w.little {
			unit = uint16(pair[1])<<8 | uint16(pair[0])
		}
		if unit != 0xfeff {
			w.out = []byte(string(utf16.Decode([]uint16{unit})))
		}
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}
