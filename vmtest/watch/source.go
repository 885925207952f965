package watch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patchproof/kernel"
	"patchproof/patches"
)

// source is what is watched: one of four kinds of folders.
type source struct {
	kind kind
	dir  string
	// branch begins with a #.
	branch string
}

type kind int

const (
	folder kind = iota
	maildir
	inbox
	tree
)

// open tells the kinds apart; FOLDER#BRANCH is a branch of a git tree.
func open(ctx context.Context, name string) (source, error) {
	dir, branch, isBranch := strings.Cut(name, "#")
	dir, err := filepath.Abs(dir)
	if err != nil {
		return source{}, err
	}
	s := source{dir: dir}
	if info, err := os.Stat(dir); err != nil {
		return s, fmt.Errorf("nothing to watch: %w", err)
	} else if !info.IsDir() {
		return s, fmt.Errorf("%s is no folder; a folder of patches, a maildir, a public-inbox clone or a git tree is watched", dir)
	}
	switch {
	case isBranch:
		s.kind, s.branch = tree, "#"+branch
	case exists(dir, "cur") && exists(dir, "new"):
		s.kind = maildir
	case exists(dir, "git/0.git"), exists(dir, "HEAD") && exists(dir, "objects"), exists(dir, ".git"):
		if !kernel.IsInbox(ctx, dir) {
			s.kind, s.branch = tree, "#HEAD"
			break
		}
		s.kind = inbox
	}
	return s, nil
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// found is a job that may be new, with the files of its patch still where they arrived.
type found struct {
	Job
	// files are to be kept, by their names there; text is kept where there is no file.
	files []string
	text  []byte
}

// news is what is there that st has not seen. It notes in st that it was seen.
func (s source) news(ctx context.Context, st *state, w *Watch) ([]found, error) {
	switch s.kind {
	case maildir:
		return s.newMails(st, w)
	case inbox:
		return s.newInboxMails(ctx, st, w)
	case tree:
		return s.newCommits(ctx, st, w)
	}
	return s.newFiles(st, w)
}

// since are the tips to begin with: with --since these.
func (w *Watch) since(st *state, repository string) map[string]string {
	if len(st.Tips) == 0 && w.Since != "" {
		return map[string]string{repository: w.Since}
	}
	return st.Tips
}

func (s source) newCommits(ctx context.Context, st *state, w *Watch) ([]found, error) {
	name := strings.TrimPrefix(s.branch, "#")
	commits, now, err := kernel.NewCommits(ctx, s.dir, name, w.since(st, s.branch)[s.branch])
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", s.dir, s.branch, err)
	}
	cache, err := filepath.Abs(filepath.Join(w.State, "commits"))
	if err != nil {
		return nil, err
	}
	var all []found
	for _, c := range commits {
		f := found{Job: Job{ID: c, Title: kernel.CommitTitle(ctx, s.dir, c), Patch: c + "^.." + c, Tree: s.dir, Status: Queued}}
		// One that no patch can be made of is told by the command.
		if sel, _, err := kernel.TakeBranch(ctx, kernel.Selection{Tree: f.Tree, Patch: f.Patch}, cache); err == nil {
			f.PatchIDs = w.series(sel.Patch).PatchIDs
		}
		all = append(all, f)
	}
	st.Tips = map[string]string{s.branch: now}
	return all, nil
}

func (s source) newInboxMails(ctx context.Context, st *state, w *Watch) ([]found, error) {
	mails, tips, err := kernel.InboxNews(ctx, s.dir, st.Tips, w.Since)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.dir, err)
	}
	cache, err := filepath.Abs(filepath.Join(w.State, "inbox"))
	if err != nil {
		return nil, err
	}
	var all []found
	for _, m := range mails {
		if !m.Patch || m.ID == "" {
			continue
		}
		sel, _, err := kernel.TakeThread(ctx, kernel.Selection{Lore: m.ID, Inbox: s.dir}, cache)
		if err != nil {
			return nil, err
		}
		all = w.take(all, sel.Patch, m.ID)
	}
	st.Tips = tips
	return all, nil
}

// newMails makes a thread of each new mail and all that belong to it.
func (s source) newMails(st *state, w *Watch) ([]found, error) {
	var files []string
	for _, sub := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, sub))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") && e.Type().IsRegular() {
				files = append(files, filepath.Join(s.dir, sub, e.Name()))
			}
		}
	}
	// A mail keeps its name up to the colon when it is moved from new to cur.
	key := func(file string) string {
		name, _, _ := strings.Cut(filepath.Base(file), ":")
		return name
	}
	if !slices.ContainsFunc(files, func(f string) bool { return !st.Seen[key(f)] }) {
		return nil, nil
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(key(a), key(b)) })
	var mails []kernel.InboxMail
	var texts [][]byte
	var there []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // It was moved or taken away just now.
		}
		if err != nil {
			return nil, err
		}
		mails, texts, there = append(mails, kernel.ReadInboxMail(text)), append(texts, text), append(there, key(file))
	}
	var all []found
	for i, m := range mails {
		if st.Seen[there[i]] || !m.Patch {
			st.Seen[there[i]] = true
			continue
		}
		in := kernel.ThreadOf(mails, m.ID)
		var box bytes.Buffer
		for k, other := range mails {
			if k == i || other.ID != "" && in[other.ID] {
				box.Write(kernel.MailboxEntry(texts[k]))
			}
		}
		file := filepath.Join(w.State, "thread.mbox")
		if err := os.WriteFile(file, box.Bytes(), 0o644); err != nil {
			return nil, err
		}
		all = w.take(all, file, m.ID)
		st.Seen[there[i]] = true
	}
	return all, nil
}

// take adds the series of a thread, once it is whole and unless it is among all.
func (w *Watch) take(all []found, file, id string) []found {
	text, err := os.ReadFile(file)
	if err != nil {
		return append(all, found{Job: Job{ID: id, Title: id, Status: Unreadable, Error: err.Error()}})
	}
	f := w.series(file)
	f.files, f.text = nil, text
	if f.ID == "" {
		f.ID = id
	}
	switch {
	case f.Status == waiting:
		w.say("waiting: %s\n", f.Error)
		return all
	case slices.ContainsFunc(all, func(o found) bool { return o.ID == f.ID }):
		return all
	}
	return append(all, f)
}

// newFiles takes each file or folder as a series of its own.
func (s source) newFiles(st *state, w *Watch) ([]found, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var all []found
	fresh := map[string]time.Time{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), ".known-issues.toml") {
			continue
		}
		file := filepath.Join(s.dir, e.Name())
		key, err := stamp(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if st.Seen[key] {
			continue
		}
		// One that is still being written is taken at a later look.
		since, there := w.fresh[key]
		if !there {
			since = time.Now()
		}
		if time.Since(since) < settled {
			fresh[key] = since
			continue
		}
		f := w.series(file)
		st.Seen[key] = true
		if f.Status == waiting {
			w.say("waiting: %s\n", f.Error)
			continue
		}
		if f.ID == "" {
			f.ID = key
		}
		f.files = []string{file}
		known := strings.TrimSuffix(file, filepath.Ext(file)) + ".known-issues.toml"
		if _, err := os.Stat(known); err == nil {
			f.files = append(f.files, known)
		}
		all = append(all, f)
	}
	w.fresh = fresh
	return all, nil
}

// settled is how long a file must have been left alone, by looks at it: its own time may be any.
const settled = time.Second

// stamp tells one state of a file or folder from another.
func stamp(file string) (key string, err error) {
	var size int64
	var newest time.Time
	err = filepath.WalkDir(file, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return nil
	})
	return fmt.Sprintf("%s %d %d", filepath.Base(file), size, newest.UnixNano()), err
}

// waiting is a series of which patches are still to come. It is no job yet.
const waiting Status = "waiting"

// series reads what PATCH=file would be.
func (w *Watch) series(file string) found {
	f := found{Job: Job{Title: filepath.Base(file), Status: Queued}}
	s, err := patches.Read(file)
	var incomplete *patches.IncompleteError
	switch {
	case errors.As(err, &incomplete):
		f.Status, f.Error = waiting, err.Error()
		if len(incomplete.There) > 0 {
			f.Title = incomplete.There[0].Subject
			f.Error = fmt.Sprintf("%s: %s", f.Title, incomplete.Missing)
		}
		return f
	case err != nil:
		f.Status, f.Error = Unreadable, err.Error()
		return f
	}
	f.Title = s.Patches[0].Subject
	for _, p := range s.Patches {
		f.PatchIDs = append(f.PatchIDs, p.ID())
	}
	f.ID = cmp.Or(s.Patches[0].MessageID, strings.Join(f.PatchIDs, "+"))
	return f
}
