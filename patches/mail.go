package patches

import (
	"bytes"
	"cmp"
	"fmt"
	"mime"
	"net/mail"
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
	from := mail.Address{Name: cmp.Or(p.Author, unknownName), Address: cmp.Or(p.Email, unknownEmail)}
	var b bytes.Buffer
	// The line that git format-patch writes; git am drops it.
	fmt.Fprintf(&b, "From %040d Mon Sep 17 00:00:00 2001\n", 0)
	fmt.Fprintf(&b, "From: %s\n", &from)
	fmt.Fprintf(&b, "Date: %s\n", date.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "Subject: [PATCH] %s\n", mime.QEncoding.Encode("utf-8", p.Subject))
	if p.MessageID != "" {
		fmt.Fprintf(&b, "Message-ID: <%s>\n", p.MessageID)
	}
	b.WriteString("MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n")
	if p.Body != "" {
		// A line of prose must not look like the start of another mail.
		b.WriteString(strings.ReplaceAll("\n"+p.Body, "\nFrom ", "\n>From ")[1:] + "\n")
	}
	b.WriteString("---\n\n")
	b.Write(p.Diff)
	if !bytes.HasSuffix(p.Diff, []byte("\n")) {
		b.WriteByte('\n')
	}
	b.WriteString("-- \npatchproof\n")
	return b.Bytes()
}
