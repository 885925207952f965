package kernel

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// server counts requests and remembers the ranges that were asked for.
type server struct {
	*httptest.Server
	ranges []string
}

func serve(t *testing.T, handle http.HandlerFunc) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ranges = append(s.ranges, r.Header.Get("Range"))
		handle(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func content(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// whole ignores Range, as some proxies do.
func whole(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { w.Write(data) }
}

// breaking sends the first half and breaks off, once; then it behaves.
func breaking(data []byte) http.HandlerFunc {
	broken := false
	return func(w http.ResponseWriter, r *http.Request) {
		if broken {
			content(data)(w, r)
			return
		}
		broken = true
		w.Header().Set("Content-Length", "100000")
		w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) }
}

func TestFetch(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	wrong := append([]byte{'!'}, data[1:]...)
	sum := sha256.Sum256(data)
	archive := Archive{Name: "a.tar.xz", Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	for name, test := range map[string]struct {
		part    []byte // from an earlier call
		servers []http.HandlerFunc
		ranges  [][]string // that each server saw
		want    []string   // in the error
	}{
		"one go":                    {nil, []http.HandlerFunc{content(data)}, [][]string{{""}}, nil},
		"resumed":                   {data[:1000], []http.HandlerFunc{content(data)}, [][]string{{"bytes=1000-"}}, nil},
		"resumed without ranges":    {data[:1000], []http.HandlerFunc{whole(data)}, [][]string{{"bytes=1000-"}}, nil},
		"whole part, not yet moved": {data, []http.HandlerFunc{content(data)}, [][]string{nil}, nil},
		"part too long":             {append(data[:len(data):len(data)], 'x'), []http.HandlerFunc{content(data)}, [][]string{{""}}, nil},
		"part was wrong":            {wrong[:1000], []http.HandlerFunc{content(data)}, [][]string{{"bytes=1000-", ""}}, nil},
		"breaks off":                {nil, []http.HandlerFunc{breaking(data)}, [][]string{{"", "bytes=40000-"}}, nil},
		"second source":             {nil, []http.HandlerFunc{status(404), content(data)}, [][]string{{""}, {""}}, nil},
		"second source after wrong": {nil, []http.HandlerFunc{content(wrong), content(data)}, [][]string{{""}, {""}}, nil},
		"second source goes on":     {data[:1000], []http.HandlerFunc{status(503), content(data)}, [][]string{{"bytes=1000-"}, {"bytes=1000-"}}, nil},
		"wrong hash":                {nil, []http.HandlerFunc{content(wrong)}, [][]string{{""}}, []string{archive.SHA256, "has sha256"}},
		"all sources say why":       {nil, []http.HandlerFunc{status(404), status(503)}, [][]string{{""}, {""}}, []string{"404 Not Found", "503 Service", "KERNEL_SRC"}},
		"longer than the pin's":     {nil, []http.HandlerFunc{content(append(data[:len(data):len(data)], 'x'))}, [][]string{{""}}, []string{"more than"}},
		"shorter than the pin's":    {nil, []http.HandlerFunc{content(data[:5000])}, [][]string{{"", "bytes=5000-"}}, []string{"416"}},
		"nothing but a login page":  {nil, []http.HandlerFunc{whole([]byte("<html>"))}, [][]string{{"", "bytes=6-", "bytes=6-"}}, []string{"6 of 80000 bytes"}},
		"answers with another range": {data[:1000], []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-1/2")
			w.WriteHeader(206)
		}}, [][]string{{"bytes=1000-"}}, []string{"bytes 1000-"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), archive.SHA256)
			if test.part != nil {
				writeFile(t, filepath.Join(dir, "a.tar.xz.part"), string(test.part))
			}
			var urls []string
			var servers []*server
			for _, handle := range test.servers {
				s := serve(t, handle)
				servers, urls = append(servers, s), append(urls, s.URL)
			}
			var last int64
			file, err := archive.fetch(t.Context(), dir, urls, func(done int64) { last = done })
			for i, s := range servers {
				if diff := cmp.Diff(test.ranges[i], s.ranges); diff != "" {
					t.Errorf("ranges asked of source %d (-want +got):\n%s", i+1, diff)
				}
			}
			if test.want == nil {
				got, readErr := os.ReadFile(file)
				if err != nil || readErr != nil || !bytes.Equal(got, data) {
					t.Fatalf("fetch = %d bytes, %v, %v; want the archive", len(got), err, readErr)
				}
				if len(servers[len(servers)-1].ranges) > 0 && last != archive.Size {
					t.Errorf("last progress = %d; want %d", last, archive.Size)
				}
				if diff := cmp.Diff([]string{"a.tar.xz"}, list(t, dir)); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
				return
			}
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v; want one with %q", err, want)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "a.tar.xz")); err == nil {
				t.Error("a file that is not the pin's was left under its name")
			}
		})
	}
}

func TestWrongHashLeavesNothing(t *testing.T) {
	data := []byte("not the kernel")
	archive := Archive{Name: "a.tar.xz", Size: int64(len(data)), SHA256: strings.Repeat("0", 64)}
	parent := t.TempDir()
	_, err := archive.fetch(t.Context(), filepath.Join(parent, "x"), []string{serve(t, content(data)).URL}, func(int64) {})
	got := sha256.Sum256(data)
	for _, want := range []string{archive.SHA256, hex.EncodeToString(got[:])} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v; want both hashes, %s is missing", err, want)
		}
	}
	if left := list(t, parent); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestNoNetwork(t *testing.T) {
	s := serve(t, status(200))
	s.Close()
	archive := Archive{Name: "a.tar.xz", Size: 10, SHA256: strings.Repeat("0", 64)}
	_, err := archive.fetch(t.Context(), t.TempDir(), []string{s.URL, "ftp://localhost/a"}, func(int64) {})
	var failed *sourcesError
	if !errors.As(err, &failed) || len(failed.tries) != 2 {
		t.Fatalf("error = %v; want both tries", err)
	}
	for _, want := range []string{"connection refused", "addresses with ftp: cannot be read"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v; want one with %q", err, want)
		}
	}
}
