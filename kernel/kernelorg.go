package kernel

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
)

// checksumKey is the key that kernel.org signs its lists of hashes with,
// B8868C80BA62A1FFFAF5FDA9632D3A06589DA6B1.
//
//go:embed kernelorg.asc
var checksumKey []byte

// kernelOrg is where releases lie as they were made, in a folder for each major version
// with a signed list of their hashes (https://www.kernel.org/signature.html).
var kernelOrg = upstream{"https://www.kernel.org/pub/linux/kernel", checksumKey}

// upstream is an archive of releases whose lists of hashes are signed by a key.
type upstream struct {
	base string
	key  []byte
}

// maxSums bounds a list of hashes: that of 5.x, with all its patches, has 0.4 MB.
const maxSums = 16 << 20

// find returns the release that is asked for, or the newest of a branch, with the hash
// that the signed list has for it.
func (u upstream) find(ctx context.Context, asked string, local bool) (release, error) {
	dir := u.folder(asked)
	list, err := u.list(ctx, dir)
	if err != nil {
		return release{}, fmt.Errorf("%ssha256sums.asc: %w", dir, err)
	}
	fits := matching(list, asked)
	if len(fits) == 0 {
		return release{}, fmt.Errorf("%ssha256sums.asc has no Linux %s", dir, asked)
	}
	newest := fits[0]
	newest.URL = dir + newest.File
	if !local {
		if newest.Size, err = sizeOf(ctx, newest.URL); err != nil {
			return release{}, fmt.Errorf("%s: %w", newest.URL, err)
		}
	}
	return newest, nil
}

// folder is where a version lies.
func (u upstream) folder(version string) string {
	major, _, _ := strings.Cut(version, ".")
	return u.base + "/v" + major + ".x/"
}

// list reads the signed list of a folder, the newest release first.
func (u upstream) list(ctx context.Context, dir string) ([]release, error) {
	body, _, err := open(ctx, dir+"sha256sums.asc", 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	message, err := io.ReadAll(io.LimitReader(body, maxSums))
	if err != nil {
		return nil, err
	}
	text, err := signedText(message, u.key)
	if err != nil {
		return nil, err
	}
	var list []release
	for _, m := range sumLine.FindAllStringSubmatch(text, -1) {
		list = append(list, release{Version: m[3], File: m[2], SHA256: m[1]})
	}
	return merge(nil, list), nil
}

// sumLine is that of a release, and not of a patch or a candidate.
var sumLine = regexp.MustCompile(`(?m)^([0-9a-f]{64})  (linux-(\d+\.\d+(?:\.\d+)?)\.tar\.xz)\r?$`)

// signedText is what a clear-signed message says, if the key has signed that. What stands
// outside of what is signed is no part of it.
func signedText(message, key []byte) (string, error) {
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(key))
	if err != nil {
		return "", fmt.Errorf("the key that it is checked with: %w", err)
	}
	block, _ := clearsign.Decode(message)
	if block == nil {
		return "", errors.New("it has no signature")
	}
	if _, err := block.VerifySignature(ring, nil); err != nil {
		return "", fmt.Errorf("its signature is not that of %X: %w", ring[0].PrimaryKey.Fingerprint, err)
	}
	return string(block.Plaintext), nil
}
