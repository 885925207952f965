package console

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// inRecords is how a log begins that dmesg --json or journalctl -o json wrote.
var inRecords = regexp.MustCompile(`^\s*\{\s*"(?:(dmesg)|[A-Z_][A-Z0-9_]*)"\s*:`)

// logRecord is what such a log has of one message: the names in small letters are dmesg's,
// the others those of journald (systemd.journal-fields).
type logRecord struct {
	Facility string          `json:"fac"`
	Priority json.RawMessage `json:"pri"`
	Time     float64         `json:"time"`
	Caller   string          `json:"caller"`
	Text     string          `json:"msg"`

	Message   json.RawMessage `json:"MESSAGE"`
	Transport string          `json:"_TRANSPORT"`
	Author    string          `json:"SYSLOG_FACILITY"`
	Micros    string          `json:"_SOURCE_MONOTONIC_TIMESTAMP"`
}

// readRecords reads a log of records. One that breaks off has told what is in front.
func readRecords(in io.Reader, w *Watcher, ofDmesg bool) error {
	d := json.NewDecoder(in)
	var err error
	if ofDmesg {
		// Its records are in a list, {"dmesg": [...]}.
		for range 3 {
			if _, err = d.Token(); err != nil {
				return fmt.Errorf("not the JSON of dmesg: %w", err)
			}
		}
	}
	var field *json.UnmarshalTypeError
	for err == nil && (!ofDmesg || d.More()) {
		var r logRecord
		if err = d.Decode(&r); errors.As(err, &field) {
			// A field that is there twice is a list.
			err = nil
		}
		if err == nil {
			r.watch(w)
		}
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return fmt.Errorf("not the JSON of dmesg or journalctl from byte %d on: %w", d.InputOffset(), err)
}

// inFields is a journal with a field on each line, as journalctl -o verbose and -o export print it.
var inFields = regexp.MustCompile(`(?m)^ {0,4}_TRANSPORT=kernel$`)

// readFields reads such a journal: a record ends before the head of the next, or a blank line.
func readFields(in *bufio.Reader, w *Watcher) error {
	var r logRecord
	for {
		line, _, err := in.ReadLine()
		text := strings.TrimPrefix(string(line), "    ")
		name, value, found := strings.Cut(text, "=")
		if text == "" || err != nil || len(text) == len(line) && strings.HasSuffix(text, "]") {
			if r.Message != nil {
				r.watch(w)
			}
			r = logRecord{}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case !found:
		case name == "MESSAGE":
			// A string is JSON's, whatever it holds.
			r.Message, _ = json.Marshal(value)
		case name == "_TRANSPORT":
			r.Transport = value
		case name == "SYSLOG_FACILITY":
			r.Author = value
		case name == "_SOURCE_MONOTONIC_TIMESTAMP":
			r.Micros = value
		}
	}
}

// watch has the watcher see the message as a console prints it, if the kernel wrote it.
func (r logRecord) watch(w *Watcher) {
	text, at := r.Text, r.Time
	priority, err := strconv.Atoi(string(r.Priority))
	switch {
	case r.Message != nil:
		if r.Transport != "kernel" || r.Author != "" && r.Author != "0" {
			return
		}
		if json.Unmarshal(r.Message, &text) != nil {
			// What is not UTF-8 is a list of bytes.
			var list []uint16
			json.Unmarshal(r.Message, &list)
			bytes := make([]byte, len(list))
			for i, b := range list {
				bytes[i] = byte(b)
			}
			text = string(bytes)
		}
		micros, _ := strconv.ParseFloat(r.Micros, 64)
		at = micros / 1e6
	case r.Facility != "" && r.Facility != "kern" || err == nil && priority >= firstForeign:
		return
	}
	caller := ""
	if r.Caller != "" {
		caller = "[" + r.Caller + "]"
	}
	for line := range strings.Lines(text) {
		w.Line(fmt.Sprintf("[%12.6f]%s %s", at, caller, strings.TrimRight(line, "\n")))
	}
}
