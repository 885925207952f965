package kernel

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchproof/kernel/sandbox"
	"patchproof/patches/regular"
)

// lore is the archive of the kernel's lists.
const lore = "https://lore.kernel.org/all/"

// mostThread bounds a thread, in bytes, as it comes compressed.
const mostThread = 64 << 20

// TakeThread makes a mailbox file, in the cache, of a thread that LORE names by a message
// id, or PATCH by its address in an archive, and returns the selection with it. Any other
// selection comes back as it was.
func TakeThread(ctx context.Context, sel Selection, cache string) (there Selection, notes []string, err error) {
	name, variable := sel.Lore, "LORE"
	if isAddress(sel.Patch) {
		if sel.Lore != "" {
			return sel, nil, fmt.Errorf("LORE=%s and PATCH=%s exclude each other", sel.Lore, sel.Patch)
		}
		name, variable = sel.Patch, "PATCH"
	}
	switch {
	case name == "" && sel.Inbox != "":
		return sel, nil, fmt.Errorf("INBOX=%s needs LORE=message-id", sel.Inbox)
	case name == "":
		return sel, nil, nil
	case sel.Lore != "" && sel.Patch != "":
		return sel, nil, fmt.Errorf("LORE=%s and PATCH=%s exclude each other", sel.Lore, sel.Patch)
	}
	list, id, err := messageID(name)
	if err != nil {
		return sel, nil, fmt.Errorf("%s=%s: %w", variable, name, err)
	}
	var text []byte
	if sel.Inbox != "" {
		text, err = fromInbox(ctx, sel.Inbox, id, cache)
		if err != nil {
			return sel, nil, fmt.Errorf("INBOX=%s: %w", sel.Inbox, err)
		}
		sel.Patch, err = keepThread(cache, id, ".mbox", text)
	} else {
		sel.Patch, notes, err = fetchThread(ctx, cache, list+url.PathEscape(id)+"/t.mbox.gz", id)
		if err != nil {
			return sel, nil, fmt.Errorf("%s=%s: %w", variable, name, err)
		}
	}
	sel.Lore, sel.Inbox = "", ""
	return sel, notes, err
}

func isAddress(patch string) bool {
	return strings.HasPrefix(patch, "https://") || strings.HasPrefix(patch, "http://")
}

// redirecting are hosts whose addresses lead to a message of lore.
var redirecting = []string{"lore.kernel.org", "lkml.kernel.org", "patch.msgid.link", "msgid.link"}

// messageID takes a message id, or an address that has one, and returns it with the
// address of the list that has its thread.
func messageID(name string) (list, id string, err error) {
	list = lore
	if isAddress(name) {
		parsed, err := url.Parse(name)
		if err != nil {
			return "", "", err
		}
		parts := strings.Split(strings.Trim(parsed.EscapedPath(), "/"), "/")
		at := slices.IndexFunc(parts, func(part string) bool { return strings.Contains(part, "@") || strings.Contains(part, "%40") })
		if at < 0 {
			return "", "", errors.New("the address has no message id in it; that of one mail is needed, as https://lore.kernel.org/LIST/MESSAGE-ID/")
		}
		if name, err = url.PathUnescape(parts[at]); err != nil {
			return "", "", err
		}
		// r is lore's own for a message of any list.
		if at > 0 && parts[at-1] != "r" || !slices.Contains(redirecting, parsed.Host) {
			list = parsed.Scheme + "://" + parsed.Host + "/" + strings.Join(parts[:at], "/") + "/"
		}
	}
	id = strings.TrimPrefix(name, "id:")
	id = strings.TrimPrefix(id, "mid:")
	id = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(id), "<"), ">")
	if !strings.Contains(id, "@") || strings.ContainsAny(id, " \t\r\n<>") {
		return "", "", fmt.Errorf("%q is no message id; one has an @ and no spaces", id)
	}
	return list, id, nil
}

// keepThread puts a thread into the cache, named by its hash.
func keepThread(cache, id, ext string, text []byte) (string, error) {
	name := regexp.MustCompile(`[^A-Za-z0-9@._+=-]`).ReplaceAllString(id, "_")
	file := filepath.Join(cache, branchesDir, hashOf(string(text))[:12], name[:min(len(name), 100)]+ext)
	return file, writeAtomic(file, string(text))
}

// fetchThread fetches a thread, or takes the one that was fetched last where the archive
// cannot be reached.
func fetchThread(ctx context.Context, cache, address, id string) (file string, notes []string, err error) {
	latest := filepath.Join(cache, branchesDir, "thread-"+hashOf(address)[:12], "latest")
	text, err := download(ctx, address)
	if err == nil {
		if file, err = keepThread(cache, id, ".mbox.gz", text); err != nil {
			return "", nil, err
		}
		return file, nil, writeAtomic(latest, file)
	}
	if ctx.Err() != nil {
		return "", nil, context.Cause(ctx)
	}
	kept, readErr := regular.ReadFile(latest)
	info, statErr := os.Stat(string(kept))
	if readErr != nil || statErr != nil {
		return "", nil, fmt.Errorf("%s: %w. Save the thread elsewhere and give it as PATCH=file, or name a clone of the list, INBOX=folder", address, err)
	}
	return string(kept), []string{fmt.Sprintf("%s: %v; the thread as fetched on %s is taken", address, err, info.ModTime().UTC().Format(time.DateTime))}, nil
}

// download returns what an archive has at an address, which must be compressed by gzip.
func download(ctx context.Context, address string) ([]byte, error) {
	body, _, err := open(ctx, address, 0)
	if err != nil {
		if err.Error() == "404 Not Found" {
			err = errors.New("the archive has no such message (404); is the message id whole?")
		}
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, mostThread+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("it broke off: %w", err)
	case len(text) > mostThread:
		return nil, fmt.Errorf("more than %d MiB, too large for a thread", mostThread>>20)
	case !bytes.HasPrefix(text, []byte("\x1f\x8b")):
		return nil, errors.New("the answer is not a mailbox but a web page, such as a login or a check for a browser")
	}
	return text, nil
}

// InboxMail is a mail of a public-inbox repository, as its index has it.
type InboxMail struct {
	Blob string   `json:"blob"`
	ID   string   `json:"id"`
	Refs []string `json:"refs,omitempty"`
	// Patch says that it is no answer, and has a diff or is numbered as a patch.
	Patch bool `json:"-"`
}

// inboxIndex lists the mails of one repository up to a commit.
type inboxIndex struct {
	Tip   string      `json:"tip"`
	Mails []InboxMail `json:"mails"`
	// Gone are blobs that were taken out again.
	Gone []string `json:"gone,omitempty"`
}

// fromInbox returns the thread of a message as a mailbox, from a clone of a public-inbox
// archive of either layout (public-inbox-v1-format(5), public-inbox-v2-format(5)).
func fromInbox(ctx context.Context, dir, id, cache string) ([]byte, error) {
	repositories, err := inboxRepositories(ctx, dir)
	if err != nil {
		return nil, err
	}
	type entry struct {
		InboxMail
		repository string
	}
	var all []entry
	for _, r := range repositories {
		index, err := indexInbox(ctx, r, cache)
		if err != nil {
			return nil, err
		}
		gone := map[string]bool{}
		for _, blob := range index.Gone {
			gone[blob] = true
		}
		for _, m := range index.Mails {
			if !gone[m.Blob] {
				all = append(all, entry{m, r})
			}
		}
	}
	if !slices.ContainsFunc(all, func(e entry) bool { return e.ID == id }) {
		return nil, fmt.Errorf("no message %s among its %d; git fetch there may bring it", id, len(all))
	}
	mails := make([]InboxMail, len(all))
	for i, e := range all {
		mails[i] = e.InboxMail
	}
	in := ThreadOf(mails, id)
	var box bytes.Buffer
	for _, e := range all {
		if !in[e.ID] {
			continue
		}
		text, err := sandbox.Output(ctx, gitCommand(e.repository, "cat-file", "blob", e.Blob))
		if err != nil {
			return nil, err
		}
		box.Write(MailboxEntry(text))
	}
	return box.Bytes(), nil
}

// ThreadOf names the mails of a thread: whoever names one of them is of it, and so is whom it
// names.
func ThreadOf(all []InboxMail, id string) map[string]bool {
	in := map[string]bool{id: true}
	for grown := true; grown; {
		grown = false
		for _, m := range all {
			if (m.ID == "" || !in[m.ID]) && !slices.ContainsFunc(m.Refs, func(ref string) bool { return in[ref] }) {
				continue
			}
			for _, name := range append(m.Refs, m.ID) {
				grown = grown || !in[name]
				in[name] = true
			}
		}
	}
	return in
}

// MailboxEntry is a mail as it stands in a mailbox.
func MailboxEntry(text []byte) []byte {
	var box bytes.Buffer
	box.WriteString("From mboxrd@z Thu Jan  1 00:00:00 1970\n")
	box.Write(mboxFromLine.ReplaceAll(bytes.TrimSuffix(text, []byte("\n")), []byte(">$0")))
	box.WriteString("\n\n")
	return box.Bytes()
}

// mboxFromLine is a line that a mailbox must tell from the beginning of a mail.
var mboxFromLine = regexp.MustCompile(`(?m)^>*From `)

// inboxRepositories are the git repositories of an inbox, the oldest first.
func inboxRepositories(ctx context.Context, dir string) ([]string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(abs); err != nil {
		return nil, err
	}
	epochs, err := filepath.Glob(filepath.Join(abs, "git", "*.git"))
	if err != nil {
		return nil, err
	}
	number := func(epoch string) int {
		n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(epoch), ".git"))
		return n
	}
	slices.SortFunc(epochs, func(a, b string) int { return number(a) - number(b) })
	if len(epochs) > 0 {
		return epochs, nil
	}
	if _, err := localGit(ctx, abs, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
		return nil, errors.New("neither a git repository with commits nor a folder with git/0.git; git clone --mirror https://lore.kernel.org/LIST/0 FOLDER/git/0.git makes one")
	}
	return []string{abs}, nil
}

// indexInbox brings the index of a repository up to its HEAD.
func indexInbox(ctx context.Context, repository, cache string) (inboxIndex, error) {
	var index inboxIndex
	file := filepath.Join(cache, branchesDir, "inbox-"+hashOf(repository)[:12], "index.json")
	text, err := regular.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return index, err
	}
	if err == nil && json.Unmarshal(text, &index) != nil {
		index = inboxIndex{}
	}
	tip, err := localGit(ctx, repository, "rev-parse", "--verify", "HEAD^{commit}")
	if err != nil || tip == index.Tip {
		return index, err
	}
	scope := tip
	if index.Tip != "" {
		if _, err := localGit(ctx, repository, "merge-base", "--is-ancestor", index.Tip, tip); err == nil {
			scope = index.Tip + ".." + tip
		} else {
			// Its history was written anew, as after a purge.
			index = inboxIndex{}
		}
	}
	mails, gone, err := mailsOf(ctx, repository, scope)
	if err != nil {
		return index, err
	}
	index.Mails, index.Gone, index.Tip = append(index.Mails, mails...), append(index.Gone, gone...), tip
	out, err := json.Marshal(index)
	if err != nil {
		return index, err
	}
	return index, writeAtomic(file, string(out))
}

// mailsOf reads the mails that commits brought, and names the blobs that they took away.
func mailsOf(ctx context.Context, repository, scope string) (mails []InboxMail, gone []string, err error) {
	log, err := localGit(ctx, repository, "log", "--reverse", "--raw", "--root", "-m", "--no-abbrev", "--no-renames", "--no-show-signature", "--format=", scope)
	if err != nil {
		return nil, nil, err
	}
	var blobs []string
	for line := range strings.Lines(log) {
		// :mode mode old new status TAB path
		change, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		words := strings.Fields(change)
		if len(words) != 5 {
			continue
		}
		switch {
		case path == "d" && words[4] != "D":
			gone = append(gone, words[3])
		case path != "m" && words[4] == "D":
			gone = append(gone, words[2])
		case words[4] != "D" && (path == "m" || inboxPath.MatchString(path)):
			blobs = append(blobs, words[3])
		}
	}
	cmd := gitCommand(repository, "--no-optional-locks", "cat-file", "--batch")
	cmd.Stdin = strings.NewReader(strings.Join(blobs, "\n") + "\n")
	r, w := io.Pipe()
	cmd.Stdout = w
	done := make(chan error, 1)
	go func() {
		err := sandbox.Run(ctx, cmd)
		w.CloseWithError(err)
		done <- err
	}()
	mails, readErr := readMails(bufio.NewReader(r), len(blobs))
	r.CloseWithError(readErr)
	return mails, gone, errors.Join(<-done, readErr)
}

// inboxPath is where a mail lies in the first layout: by the hash of its message id.
var inboxPath = regexp.MustCompile(`^[0-9a-f]{2}/[0-9a-f]{38}$`)

var angled = regexp.MustCompile(`<([^<>\s]+)>`)

// readMails reads n mails that git cat-file --batch writes.
func readMails(r *bufio.Reader, n int) ([]InboxMail, error) {
	var all []InboxMail
	for range n {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		words := strings.Fields(line)
		if len(words) != 3 {
			return nil, fmt.Errorf("git cat-file says %q of a mail", strings.TrimSpace(line))
		}
		size, err := strconv.Atoi(words[2])
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+1)
		if _, err := io.ReadFull(r, text); err != nil {
			return nil, err
		}
		m := ReadInboxMail(text)
		m.Blob = words[0]
		all = append(all, m)
	}
	return all, nil
}

// ReadInboxMail reads a mail's place in its thread. One without a readable header is in none.
func ReadInboxMail(text []byte) InboxMail {
	var m InboxMail
	parsed, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return m
	}
	if found := angled.FindStringSubmatch(parsed.Header.Get("Message-ID")); found != nil {
		m.ID = found[1]
	}
	for _, found := range angled.FindAllStringSubmatch(parsed.Header.Get("References")+" "+parsed.Header.Get("In-Reply-To"), -1) {
		if !slices.Contains(m.Refs, found[1]) {
			m.Refs = append(m.Refs, found[1])
		}
	}
	subject := parsed.Header.Get("Subject")
	if decoded, err := new(mime.WordDecoder).DecodeHeader(subject); err == nil {
		subject = decoded
	}
	m.Patch = !answer.MatchString(subject) && (tagged.MatchString(subject) || diffLine.Match(text))
	return m
}

var (
	answer   = regexp.MustCompile(`^\s*(?i:re|aw|fwd):`)
	tagged   = regexp.MustCompile(`\[[^\]]*(?:PATCH|RFC|\d+/\d+)[^\]]*\]`)
	diffLine = regexp.MustCompile(`(?m)^--- (?:a/|/dev/null)`)
)

// InboxNews lists the mails that came to a public-inbox clone since the tips of its
// repositories were what tips has, and tells the tips now. A repository that is new beside others
// has news only. Without any tips all is old, but for what came after the commit since.
func InboxNews(ctx context.Context, dir string, tips map[string]string, since string) (news []InboxMail, now map[string]string, err error) {
	repositories, err := inboxRepositories(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	now = map[string]string{}
	for i, r := range repositories {
		tip, err := localGit(ctx, r, "rev-parse", "--verify", "HEAD^{commit}")
		if err != nil {
			return nil, nil, err
		}
		now[r] = tip
		old, known := tips[r]
		if len(tips) == 0 && since != "" && i == len(repositories)-1 {
			if old, err = localGit(ctx, r, "rev-parse", "--verify", since+"^{commit}"); err != nil {
				return nil, nil, err
			}
			known = true
		}
		if tip == old || !known && len(tips) == 0 {
			continue
		}
		scope := tip
		if known {
			scope = old + ".." + tip
		}
		mails, _, err := mailsOf(ctx, r, scope)
		if err != nil {
			return nil, nil, err
		}
		news = append(news, mails...)
	}
	return news, now, nil
}

// IsInbox says whether a folder is a public-inbox clone.
func IsInbox(ctx context.Context, dir string) bool {
	repositories, err := inboxRepositories(ctx, dir)
	if err != nil {
		return false
	}
	names, err := localGit(ctx, repositories[len(repositories)-1], "ls-tree", "--name-only", "HEAD")
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(strings.Fields(names), func(name string) bool { return name != "m" && name != "d" && !inboxFolder.MatchString(name) })
}

var inboxFolder = regexp.MustCompile(`^[0-9a-f]{2}$`)

// NewCommits lists the commits of a branch that came since it was at a commit, the oldest
// first, and says where it is now; without one, all are old. Merges are left out: what they
// bring in is listed itself.
func NewCommits(ctx context.Context, dir, branch, since string) (commits []string, now string, err error) {
	now, err = localGit(ctx, dir, "rev-parse", "--verify", branch+"^{commit}")
	if err != nil || since == "" || since == now {
		return nil, now, err
	}
	if since, err = localGit(ctx, dir, "rev-parse", "--verify", since+"^{commit}"); err != nil {
		return nil, "", err
	}
	list, err := localGit(ctx, dir, "rev-list", "--reverse", "--topo-order", "--no-merges", since+".."+now)
	return strings.Fields(list), now, err
}

// CommitTitle is the first line of a commit's message.
func CommitTitle(ctx context.Context, dir, commit string) string {
	title, err := localGit(ctx, dir, "log", "-1", "--no-show-signature", "--format=%s", commit)
	if err != nil {
		return commit
	}
	return title
}
