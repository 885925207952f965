package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest/console"
)

type consoleCmd struct {
	Files   []string `arg:"" help:"Logs of kernels, from a serial console, dmesg or a journal; - is standard input."`
	Vmlinux string   `name:"vmlinux" env:"VMLINUX" placeholder:"FILE" help:"The kernel with debug info, whose source the places are looked up in."`
	JSON    bool     `name:"json" help:"Print it for programs."`
}

// complaint is what a log says that should not be there.
type complaint struct {
	Verdict event.Verdict   `json:"verdict"`
	Title   string          `json:"title"`
	Times   int             `json:"times"`
	Where   []results.Frame `json:"where,omitempty"`
	Text    string          `json:"text"`
	places  string
}

// readLog is a log and what it holds.
type readLog struct {
	File string `json:"file"`
	// Verdict is the worst of the complaints, pass where there is none, and error where the
	// log could not be read.
	Verdict    event.Verdict `json:"verdict"`
	Complaints []complaint   `json:"complaints"`
	// Asked says where the kernel was when the harness, or somebody, asked it.
	Asked string `json:"asked,omitempty"`
	// Note says why no place in the source is known, or the log could not be read.
	Note string `json:"note,omitempty"`
}

// Run says what kernels complain of in their logs. It ends with 1 where one does, and with 2
// where a log could not be read, whatever the others say.
func (c consoleCmd) Run(ctx context.Context, t *terminal) error {
	var symbols *kernel.Symbols
	if c.Vmlinux != "" {
		if _, err := os.Stat(c.Vmlinux); err != nil {
			return fmt.Errorf("VMLINUX: %w", err)
		}
		symbols = kernel.ImageSymbols(c.Vmlinux)
	}
	var all []readLog
	var failed []error
	for _, file := range c.Files {
		log, err := readConsole(ctx, file, c.Vmlinux, symbols)
		if err != nil {
			failed = append(failed, err)
			log = readLog{File: file, Verdict: event.Error, Complaints: []complaint{}, Note: err.Error()}
		}
		all = append(all, log)
	}
	if c.JSON {
		text, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			return err
		}
		t.printf("%s\n", text)
	}
	complains := false
	for _, log := range all {
		complains = complains || len(log.Complaints) > 0
		if c.JSON || log.Verdict == event.Error {
			continue
		}
		if len(c.Files) > 1 {
			t.printf("%s\n", event.Printable(log.File))
		}
		if len(log.Complaints) == 0 {
			t.printf("no complaint of the kernel\n")
		}
		for _, said := range log.Complaints {
			times := ""
			if said.Times > 1 {
				times = fmt.Sprintf(" (%d times)", said.Times)
			}
			t.printf("%s: %s%s\n", said.Verdict, event.Printable(said.Title), times)
			if said.places != "" {
				t.printf("%s\n", event.PrintableLines(strings.Trim(said.places, "\n")))
			}
		}
		if log.Asked != "" {
			t.printf("%s\n", event.Printable(log.Asked))
		}
		if log.Note != "" {
			t.note(event.Printable(log.Note))
		}
	}
	if len(failed) == 0 && complains {
		return errUnexpected
	}
	return errors.Join(failed...)
}

// whyNoPlace says what is wrong with the image that a user took.
func whyNoPlace(symbols *kernel.Symbols, vmlinux string) (string, error) {
	lines, err := symbols.HaveLines()
	switch {
	case err != nil:
		return "", fmt.Errorf("VMLINUX: %w", err)
	case lines:
		return fmt.Sprintf("%s has none of the functions that the log names: take the vmlinux of the kernel that printed it", vmlinux), nil
	}
	return fmt.Sprintf("%s has no debug info, so that no place in the source is known: take one built with CONFIG_DEBUG_INFO", vmlinux), nil
}

func readConsole(ctx context.Context, file, vmlinux string, symbols *kernel.Symbols) (readLog, error) {
	in, name := io.Reader(os.Stdin), "standard input"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return readLog{}, err
		}
		defer f.Close()
		in, name = f, file
	}
	w, err := console.Read(in)
	if err != nil {
		return readLog{}, fmt.Errorf("%s: %w", name, err)
	}
	if !w.Kernels && len(w.Splats()) == 0 {
		return readLog{}, fmt.Errorf("%s: nothing in it looks like a kernel's log: no line has a timestamp of the kernel's, or the head that "+
			"dmesg, syslog or a journal puts in front", name)
	}
	if w.Unread != "" && len(w.Splats()) == 0 {
		return readLog{}, fmt.Errorf("%s: it has a complaint of the kernel, which cannot be read for what is in front of its lines: %.120q; "+
			"take that away first, as with sed", name, w.Unread)
	}
	log := readLog{File: file, Verdict: event.Pass, Complaints: []complaint{}, Asked: w.Asked()}
	placed := false
	for _, s := range w.Splats() {
		said := complaint{Verdict: s.Verdict, Title: s.Title, Times: s.Times, Text: s.Text}
		if symbols != nil {
			if said.Where, said.places, err = console.Places(ctx, symbols, nil, s.Text); err != nil {
				return readLog{}, fmt.Errorf("VMLINUX: the places in %s cannot be looked up: %w", file, err)
			}
			placed = placed || said.places != ""
		}
		log.Verdict = event.Worst(log.Verdict, s.Verdict)
		log.Complaints = append(log.Complaints, said)
	}
	if symbols != nil && len(log.Complaints) > 0 && !placed {
		if log.Note, err = whyNoPlace(symbols, vmlinux); err != nil {
			return readLog{}, err
		}
	}
	return log, nil
}
