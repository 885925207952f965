package patches

import (
	"bytes"
	"cmp"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"time"
)

// Who and when, for a diff that does not say: fixed, so that its commit gets the
// same id on every machine.
const (
	unknownName  = "patchproof"
	unknownEmail = "patchproof@localhost"
)

var unknownDate = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// MailMessage is the patch as a mailbox of one plain UTF-8 mail for git am. It is
// written anew from the parsed patch, so that no encoding, signature, mailing-list
// footer or second mail of the original can make git read something else than Read did.
func (p Patch) MailMessage() []byte {
	date := p.Date
	if date.IsZero() {
		date = unknownDate
	}
	from := author(cmp.Or(p.Author, unknownName), cmp.Or(p.Email, unknownEmail))
	var text bytes.Buffer
	if p.Body != "" {
		if mailHeader.MatchString(p.Body) {
			// Else git would take the first line for the author or the subject.
			fmt.Fprintf(&text, "From: %s\n\n", from)
		}
		text.WriteString(p.Body + "\n")
	}
	text.WriteString("---\n\n")
	text.Write(p.Diff)
	if !bytes.HasSuffix(p.Diff, []byte("\n")) {
		text.WriteByte('\n')
	}
	text.WriteString("-- \npatchproof\n")

	var b bytes.Buffer
	// The line that git format-patch writes; git am drops it.
	fmt.Fprintf(&b, "From %040d Mon Sep 17 00:00:00 2001\n", 0)
	fmt.Fprintf(&b, "From: %s\n", from)
	fmt.Fprintf(&b, "Date: %s\n", date.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "Subject: [PATCH] %s\n", mime.QEncoding.Encode("utf-8", p.Subject))
	if p.MessageID != "" {
		fmt.Fprintf(&b, "Message-ID: <%s>\n", p.MessageID)
	}
	encoding := "8bit"
	if separator.Match(text.Bytes()) {
		// A line of prose must not look like the start of another mail.
		text, encoding = quoted(text.Bytes()), "quoted-printable"
	}
	fmt.Fprintf(&b, "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: %s\n\n", encoding)
	b.Write(text.Bytes())
	return b.Bytes()
}

var (
	mailHeader = regexp.MustCompile(`(?i)^(?:from:|subject:|date:|\[PATCH\]|>From\s)`)
	separator  = regexp.MustCompile(`(?m)^From `)
)

// author is a From header's value. git takes the name out of its quotes whole, with
// what parentheses and commas it has.
func author(name, email string) string {
	name = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name)
	return fmt.Sprintf(`"%s" <%s>`, name, email)
}

// quoted is a text as quoted-printable, with no line that begins with "From ".
func quoted(text []byte) bytes.Buffer {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	w.Binary = true
	for line := range bytes.Lines(text) {
		body, end := bytes.CutSuffix(line, []byte("\n"))
		// Writes to a buffer do not fail.
		_, _ = w.Write(body)
		_ = w.Close()
		if end {
			b.WriteByte('\n')
		}
		w = quotedprintable.NewWriter(&b)
		w.Binary = true
	}
	escaped := separator.ReplaceAll(b.Bytes(), []byte("=46rom "))
	return *bytes.NewBuffer(bytes.ReplaceAll(escaped, []byte("\r\n"), []byte("\n")))
}
