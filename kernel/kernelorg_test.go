package kernel

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
)

// signer is a key made for a test.
func signer(t *testing.T) (*openpgp.Entity, []byte) {
	t.Helper()
	e, err := openpgp.NewEntity("signer", "", "signer@localhost", nil)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return e, text.Bytes()
}

func clearSigned(t *testing.T, e *openpgp.Entity, text string) string {
	t.Helper()
	var message bytes.Buffer
	w, err := clearsign.Encode(&message, e.PrivateKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return message.String() + "\n"
}

// The key in the tree is kernel.org's.
func TestChecksumKey(t *testing.T) {
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(checksumKey))
	if err != nil || len(ring) != 1 {
		t.Fatalf("%d keys, %v; want one", len(ring), err)
	}
	if got := fmt.Sprintf("%X", ring[0].PrimaryKey.Fingerprint); got != "B8868C80BA62A1FFFAF5FDA9632D3A06589DA6B1" {
		t.Errorf("its fingerprint is %s; want that of the checksum autosigner", got)
	}
}

// What Debian's archive lacks comes from kernel.org, by its signed list, and by nothing else.
func TestTakeReleaseOfKernelOrg(t *testing.T) {
	key, public := signer(t)
	stranger, _ := signer(t)
	data := xz(t, fixtureTar(t))
	sum := fixturePin(t, data).Archive.SHA256
	line := func(version, sum string) string { return sum + "  linux-" + version + ".tar.xz\n" }
	list := line("6.9", sum) + line("6.9.10", sum) + line("6.9.2", sum) +
		strings.Repeat("c", 64) + "  patch-6.9.11.xz\n" + strings.Repeat("d", 64) + "  linux-6.9.12.tar.gz\n"
	whole := clearSigned(t, key, list)
	evil := line("6.9.99", strings.Repeat("e", 64))
	for name, test := range map[string]struct {
		sums, pin, want string
		err             []string
	}{
		"a version":                    {sums: whole, pin: "6.9.2", want: "v6.9.2"},
		"the newest of a branch":       {sums: whole, pin: "6.9", want: "v6.9.10"},
		"one that is not there":        {sums: whole, pin: "6.9.3", err: []string{"no Linux 6.9.3 in Debian's signed index", "has no Linux 6.9.3"}},
		"only a patch":                 {sums: whole, pin: "6.9.11", err: []string{"has no Linux 6.9.11"}},
		"no signature":                 {sums: list, pin: "6.9.2", err: []string{"sha256sums.asc: it has no signature"}},
		"a page in place of it":        {sums: "<html>busy</html>", pin: "6.9.2", err: []string{"it has no signature"}},
		"the key of somebody else":     {sums: clearSigned(t, stranger, list), pin: "6.9.2", err: []string{"its signature is not that of"}},
		"a line changed":               {sums: strings.Replace(whole, sum, strings.Repeat("e", 64), 1), pin: "6.9.2", err: []string{"its signature is not that of"}},
		"a line before what is signed": {sums: evil + whole, pin: "6.9.99", err: []string{"has no Linux 6.9.99"}},
		"a line behind what is signed": {sums: whole + evil, pin: "6.9.99", err: []string{"has no Linux 6.9.99"}},
		"a second list, unsigned":      {sums: whole + "-----BEGIN PGP SIGNED MESSAGE-----\n\n" + evil, pin: "6.9.99", err: []string{"has no Linux 6.9.99"}},
		"it is cut":                    {sums: whole[:len(whole)/2], pin: "6.9.2", err: []string{"it has no signature"}},
		"nothing":                      {pin: "6.9.2", err: []string{"404"}},
	} {
		t.Run(name, func(t *testing.T) {
			mirror(t, nil)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/v6.x/sha256sums.asc" && test.sums != "":
					fmt.Fprint(w, test.sums)
				case strings.HasPrefix(r.URL.Path, "/v6.x/linux-6.9") && strings.HasSuffix(r.URL.Path, ".tar.xz"):
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
				default:
					http.NotFound(w, r)
				}
			}))
			kernelOrg = upstream{server.URL, public}
			cache := listed(t, release{Version: "6.12.9", File: orig("6.12.9"), SHA256: strings.Repeat("a", 64), Size: 5})
			var said []string
			take := func() (Selection, error) {
				return TakeRelease(t.Context(), Selection{Pin: test.pin}, cache, "", func(line string) { said = append(said, line) })
			}
			got, err := take()
			if len(test.err) > 0 {
				for _, part := range test.err {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("TakeRelease = %s, %v; want %q", got.Pin, err, part)
					}
				}
				return
			}
			if err != nil || got.Pin != test.want || got.Release.Trust != trustKernelOrg || !strings.Contains(strings.Join(said, "\n"), "from kernel.org") {
				t.Fatalf("TakeRelease = %s, %v, saying %q; want %s of kernel.org", got.Pin, err, said, test.want)
			}
			// It is imported by that hash, and known without the list the next time.
			b := &Builder{Cache: cache}
			spec := Spec{Name: Base, Pin: *got.Release}
			if _, err := b.Apply(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			// Whoever knows the hash needs no list.
			given, err := TakeRelease(t.Context(), Selection{Pin: got.Release.Version + "@" + sum}, t.TempDir(), "", func(string) {})
			if err != nil || given.Release.Trust != trustUser || given.Release.Archive != got.Release.Archive {
				t.Errorf("TakeRelease by the hash = %+v, %v; want the same archive", given.Release, err)
			}
			server.Close()
			if err := os.RemoveAll(filepath.Join(cache, treesDir)); err != nil {
				t.Fatal(err)
			}
			again, err := take()
			if err != nil || again.Pin != got.Pin || again.Release.Trust != trustKernelOrg || again.Release.Archive != got.Release.Archive {
				t.Errorf("TakeRelease without the server = %+v, %v; want as before", again.Release, err)
			}
			if _, err := b.Apply(t.Context(), spec); err != nil {
				t.Errorf("Apply of what is in the cache: %v", err)
			}
			if len(spec.Pin.Sources) != 1 || spec.Pin.Sources[0].URL == "" {
				t.Errorf("its sources are %v; want kernel.org alone", spec.Pin.Sources)
			}
		})
	}
}
