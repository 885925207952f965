package kernel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchproof/kernel/sandbox"
	"patchproof/patches/regular"
)

// release is a kernel source that a signed index lists: the Debian archive's, or kernel.org's.
type release struct {
	Version string
	// File is its path below a repository, its name where URL is set.
	File   string
	SHA256 string
	Size   int64
	// URL is where it lies, if that is kernel.org.
	URL string `json:",omitempty"`
}

// trust says why its hash is believed.
func (r release) trust() string {
	if r.URL != "" {
		return trustKernelOrg
	}
	return trustIndex
}

// served returns its size if it can be had.
func (r release) served(ctx context.Context) (int64, error) {
	if r.URL != "" {
		return sizeOf(ctx, r.URL)
	}
	return served(ctx, r.File)
}

// releaseForm is a PIN that names a release: 6.12.107, the newest of 6.12, or one whose
// hash the user knows.
var releaseForm = regexp.MustCompile(`^v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,4}))?(?:@([0-9a-f]{64}))?$`)

// origFile is how Debian calls a kernel source.
var origFile = regexp.MustCompile(`^linux_(\d+\.\d+(?:\.\d+)?)\.orig\.tar\.xz$`)

// releasesFile, in the cache, lists what Debian's index was seen to have. A line stays
// when the index has it no more: what was trusted once is the same file for ever.
const releasesFile = "releases.json"

// isReleases says that a file of the cache is such a list, of Linux or of a suite of tests.
func isReleases(name string) bool {
	fits, err := filepath.Match("releases-*.json", name)
	return name == releasesFile || err == nil && fits
}

const (
	// indexAge is how old the list may be where the newest of a branch is asked for,
	// and missAge where it lacks what is asked for.
	indexAge = 24 * time.Hour
	missAge  = 10 * time.Minute
)

// How a source's hash came to be trusted.
const (
	trustDeclared = "declared in kernels.toml"
	trustIndex    = "listed in Debian's Sources, whose signature apt has verified"
	trustUser     = "given with PIN"

	trustKernelOrg = "listed in kernel.org's sha256sums.asc, whose signature was checked"
)

// TakeRelease finds the source of a PIN that names a release of Linux and that
// kernels.toml does not declare, and returns the selection with it. Any other selection
// comes back as it was. source is a local copy (KERNEL_SRC), if the user has one; say is
// told what takes its time.
func TakeRelease(ctx context.Context, sel Selection, cache, source string, say func(string)) (Selection, error) {
	form := releaseForm.FindStringSubmatch(sel.Pin)
	if version, hash, ok := strings.Cut(sel.Pin, "@"); form == nil && ok && releaseForm.MatchString(version) {
		return sel, fmt.Errorf("PIN=%s: %q is not a sha256: want 64 digits, 0 to 9 and a to f", sel.Pin, hash)
	}
	if form == nil || sel.Tree != "" {
		return sel, nil
	}
	asked, hash := strings.TrimPrefix(strings.SplitN(sel.Pin, "@", 2)[0], "v"), form[4]
	lineup, err := Load()
	if err != nil {
		return sel, err
	}
	for _, p := range lineup.Pins {
		if p.Version == asked && (hash == "" || hash == p.Archive.SHA256) {
			sel.Pin = p.Name
			return sel, nil
		}
	}
	if major, _ := strconv.Atoi(form[1]); major < oldest {
		return sel, fmt.Errorf("PIN=%s: 5.4 to 7.x are served, and no kernel before %d.0 boots here", sel.Pin, oldest)
	}
	var found release
	trust := trustUser
	if hash != "" {
		found, err = givenRelease(ctx, asked, hash, source)
	} else {
		found, err = findRelease(ctx, asked, cache, source, say)
		trust = found.trust()
	}
	if err != nil {
		return sel, fmt.Errorf("PIN=%s: %w", sel.Pin, err)
	}
	pin := releasePin(found, trust)
	sel.Pin, sel.Release = pin.Name, &pin
	return sel, nil
}

func releasePin(r release, trust string) Pin {
	return Pin{
		Name: "v" + r.Version, Version: r.Version, Trust: trust,
		// The archive says nothing about dates that git could take; it is the builds' own.
		Date:    time.Date(2020, 5, 13, 16, 30, 44, 0, time.UTC),
		Archive: Archive{Name: filepath.Base(r.File), Size: r.Size, SHA256: r.SHA256},
		Sources: []Source{r.source()},
	}
}

func (r release) source() Source {
	if r.URL != "" {
		return Source{URL: r.URL}
	}
	return Source{Debian: r.File}
}

// findRelease returns the release that is asked for, or the newest of a branch: Debian's,
// else kernel.org's. What was found there is kept in the cache.
func findRelease(ctx context.Context, asked, cache, local string, say func(string)) (release, error) {
	found, debianErr := debianRelease(ctx, asked, cache, local != "", say)
	if debianErr == nil || ctx.Err() != nil {
		return found, debianErr
	}
	found, err := kernelOrg.find(ctx, asked, local != "")
	if ctx.Err() != nil {
		return release{}, context.Cause(ctx)
	}
	if err != nil {
		return release{}, fmt.Errorf("%w. Nor could it be had from kernel.org: %w", debianErr, err)
	}
	say(fmt.Sprintf("note: Linux %s is taken from kernel.org, by its signed list of hashes", found.Version))
	if local != "" {
		if found.Size, err = localSize(local); err != nil {
			return found, err
		}
	}
	file := filepath.Join(cache, releasesFile)
	known, age, err := readReleases(file)
	if err != nil {
		return release{}, err
	}
	if err := writeReleases(file, merge(known, []release{found})); err != nil {
		return release{}, err
	}
	// The list is no younger for it.
	then := time.Now().Add(-age)
	return found, os.Chtimes(file, then, then)
}

// debianRelease returns the release that is asked for, or the newest of a branch, that is
// in the cache or that a mirror serves.
func debianRelease(ctx context.Context, asked, cache string, local bool, say func(string)) (release, error) {
	file := filepath.Join(cache, releasesFile)
	known, age, err := readReleases(file)
	if err != nil {
		return release{}, err
	}
	fits := matching(known, asked)
	exact := strings.Count(asked, ".") == 2
	if exact && len(fits) == 0 && age > missAge || !exact && (age > indexAge || len(fits) == 0 && age > missAge) {
		say("looking for Linux " + asked + " in the Debian archive's index")
		more, err := debianReleases(ctx, "linux", origFile)
		switch {
		case ctx.Err() != nil:
			return release{}, context.Cause(ctx)
		case err != nil && len(fits) == 0:
			return release{}, err
		case err != nil:
			say(fmt.Sprintf("note: the index of %s is used, as there is no newer one: %v", time.Now().Add(-age).UTC().Format(time.DateOnly), err))
		default:
			known = merge(known, more)
			if err := writeReleases(file, known); err != nil {
				return release{}, err
			}
			fits = matching(known, asked)
		}
	}
	if len(fits) == 0 {
		return release{}, unlisted(known, asked)
	}
	if local {
		return fits[0], nil
	}
	var tries []string
	for _, r := range fits {
		if _, err := os.Stat(filepath.Join(cache, sourcesDir, r.SHA256, filepath.Base(r.File))); err == nil {
			return r, nil
		}
		if _, err := r.served(ctx); err == nil {
			return r, nil
		} else if ctx.Err() != nil {
			return release{}, context.Cause(ctx)
		} else {
			tries = append(tries, fmt.Sprintf("%s (%v)", r.Version, err))
		}
	}
	return release{}, fmt.Errorf("it is in Debian's index, but it cannot be had: %s. Give a local copy with KERNEL_SRC=file, or name another version",
		strings.Join(tries, ", "))
}

// unlisted says what there is instead of a version.
func unlisted(known []release, asked string) error {
	parts := strings.SplitN(asked, ".", 3)
	near := versions(matching(known, parts[0]+"."+parts[1]))
	if len(near) == 0 {
		var branches []string
		for _, v := range versions(known) {
			p := strings.SplitN(v, ".", 3)
			branches = append(branches, p[0]+"."+p[1])
		}
		near = slices.Compact(branches)
	}
	if len(near) > 12 {
		near = append(near[:12], "and older ones")
	}
	return fmt.Errorf("no Linux %s in Debian's signed index, so nothing says what its source's hash is. It has %s. "+
		"Where you know the hash, PIN=version@sha256 takes that; a git tree of any version is TREE=folder", asked, strings.Join(near, ", "))
}

func versions(list []release) []string {
	var all []string
	for _, r := range list {
		all = append(all, r.Version)
	}
	return all
}

// matching returns the releases that a version means, the newest first.
func matching(known []release, asked string) []release {
	exact := strings.Count(asked, ".") == 2
	var fits []release
	for _, r := range known {
		if r.Version == asked || !exact && strings.HasPrefix(r.Version, asked+".") {
			fits = append(fits, r)
		}
	}
	return fits
}

// merge returns both lists as one, the newest version first; what is seen now counts for
// more than what was.
func merge(known, seen []release) []release {
	all := slices.Concat(seen, known)
	slices.SortStableFunc(all, func(a, b release) int { return compareVersions(b.Version, a.Version) })
	return slices.CompactFunc(all, func(a, b release) bool { return a.Version == b.Version })
}

func compareVersions(a, b string) int {
	numbers := func(v string) []int {
		var list []int
		for part := range strings.SplitSeq(v, ".") {
			n, _ := strconv.Atoi(part)
			list = append(list, n)
		}
		return list
	}
	return slices.Compare(numbers(a), numbers(b))
}

// readReleases reads the list in the cache and says how old it is.
func readReleases(file string) ([]release, time.Duration, error) {
	text, err := regular.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 1<<63 - 1, nil
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, 0, err
	}
	// A hash stands before it, unless it is of old: a damaged one would go on naming another source,
	// or one that nobody has.
	list := string(text)
	sum, rest, hashed := strings.Cut(list, "\n")
	if hashed = hashed && !strings.HasPrefix(list, "["); hashed {
		list = rest
	}
	var known []release
	if hashed && sum != hashOf(list) || json.Unmarshal([]byte(list), &known) != nil {
		// It is looked up again.
		return nil, 1<<63 - 1, nil
	}
	age := time.Since(info.ModTime())
	if age < 0 {
		// A clock that was wrong wrote it, or is wrong now: it would count as new for as long.
		age = 1<<63 - 1
	}
	return known, age, nil
}

func writeReleases(file string, list []release) error {
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomic(file, hashOf(string(text))+"\n"+string(text))
}

// localSize is the size of the file that KERNEL_SRC names.
func localSize(file string) (int64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, fmt.Errorf("KERNEL_SRC: %w", err)
	}
	return info.Size(), nil
}

// givenRelease is a release that only the user vouches for.
func givenRelease(ctx context.Context, version, hash, source string) (release, error) {
	r := release{Version: version, File: "pool/main/l/linux/linux_" + version + ".orig.tar.xz", SHA256: hash}
	var err error
	if source != "" {
		r.Size, err = localSize(source)
		return r, err
	}
	if r.Size, err = served(ctx, r.File); err == nil || ctx.Err() != nil {
		return r, err
	}
	// The hash may be that of kernel.org's, on another machine.
	theirs := r
	theirs.File = "linux-" + version + ".tar.xz"
	theirs.URL = kernelOrg.folder(version) + theirs.File
	size, theirErr := sizeOf(ctx, theirs.URL)
	if theirErr != nil {
		return r, fmt.Errorf("%w; %s: %w", err, theirs.URL, theirErr)
	}
	theirs.Size = size
	return theirs, nil
}

// served returns the size of a file if one of the repositories has it.
func served(ctx context.Context, file string) (int64, error) {
	repositories, err := aptRepositories(ctx)
	if err != nil {
		return 0, err
	}
	var last error
	for _, r := range repositories {
		size, err := sizeOf(ctx, strings.TrimSuffix(r, "/")+"/"+file)
		if err == nil {
			return size, nil
		}
		last = err
	}
	return 0, fmt.Errorf("no repository of this host's apt has %s: %w", filepath.Base(file), last)
}

func sizeOf(ctx context.Context, address string) (int64, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return 0, err
	}
	if parsed.Scheme == "file" || parsed.Scheme == "copy" {
		info, err := os.Stat(parsed.Path)
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, stallAfter)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, errors.New(response.Status)
	}
	return response.ContentLength, nil
}

// suites are where kernels of the branches come from, by the names that stay when a
// release is made. A mirror need not have all of them.
var suites = []string{
	"oldoldstable", "oldstable", "oldstable-backports", "stable", "stable-backports", "testing", "unstable", "experimental",
}

// securitySuites are those of the security archive.
var securitySuites = []string{"oldoldstable-security", "oldstable-security", "stable-security"}

// debianKeys are what Debian's archive is signed with, from the package debian-archive-keyring.
const debianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg"

// debianReleases reads what the sources' index of the archives that the host's apt is
// configured with has of a package, through apt, which verifies it, and with state of its
// own: the host's lists stay as they are, and nothing of it remains. orig takes the
// version out of the name of a source.
func debianReleases(ctx context.Context, name string, orig *regexp.Regexp) ([]release, error) {
	archives, err := debianArchives(ctx)
	if err != nil {
		return nil, err
	}
	// apt's downloads run as another user, who could not look into the cache.
	dir, remove, err := TempDir("apt")
	if err != nil {
		return nil, err
	}
	defer remove()
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "sources.list"), []byte(archives), 0o644); err != nil {
		return nil, err
	}
	apt := func(name string, args ...string) ([]byte, error) {
		cmd := exec.Command(name, append([]string{
			"-o", "Dir::State=" + filepath.Join(dir, "state"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
			"-o", "Dir::Etc::SourceList=" + filepath.Join(dir, "sources.list"), "-o", "Dir::Etc::SourceParts=/dev/null",
			// Whatever the host lets pass: unsigned lists say nothing about a hash.
			"-o", "Acquire::AllowInsecureRepositories=false", "-o", "Acquire::AllowWeakRepositories=false",
			"-o", "Acquire::AllowDowngradeToInsecureRepositories=false",
		}, args...)...)
		cmd.Env = sandbox.Env()
		return sandbox.Output(ctx, cmd)
	}
	// It fails when one suite is not there, and keeps those that are.
	_, updated := apt("apt-get", "--quiet", "update")
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	text, err := apt("apt-cache", "showsrc", "--only-source", name)
	if err != nil {
		return nil, errors.Join(updated, err)
	}
	list := parseSources(text, orig)
	if len(list) == 0 {
		return nil, errors.Join(fmt.Errorf("the archive's index has no source of %s", name), updated)
	}
	return list, nil
}

// debianArchives returns sources.list for the sources of the host's Debian archives.
func debianArchives(ctx context.Context) (string, error) {
	cmd := exec.Command("apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages")
	cmd.Env = sandbox.Env()
	out, err := sandbox.Output(ctx, cmd)
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("this host has no apt, through which versions are looked up; TREE=folder takes a git tree")
	}
	if err != nil {
		return "", err
	}
	signed := ""
	if exists(debianKeys) {
		signed = "[signed-by=" + debianKeys + "] "
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "Debian" {
			continue
		}
		names := suites
		if fields[1] == "Debian-Security" {
			names = securitySuites
		}
		for _, suite := range names {
			lines = append(lines, fmt.Sprintf("deb-src %s%s %s main\n", signed, fields[len(fields)-1], suite))
		}
	}
	slices.Sort(lines)
	lines = slices.Compact(lines)
	if len(lines) == 0 {
		return "", errors.New("apt on this host has no Debian archive, in whose index versions are looked up; TREE=folder takes a git tree")
	}
	return strings.Join(lines, ""), nil
}

// parseSources reads the sources of a Sources index (deb-src-control(5)), the newest
// first.
func parseSources(text []byte, orig *regexp.Regexp) []release {
	var list, here []release
	folder, section := "", ""
	end := func() {
		for _, r := range here {
			r.File = folder + "/" + r.File
			list = append(list, r)
		}
		here, folder = nil, ""
	}
	for raw := range bytes.Lines(text) {
		line := strings.TrimRight(string(raw), "\n")
		name, value, isField := strings.Cut(line, ":")
		fields := strings.Fields(line)
		switch {
		case line == "":
			end()
		case line[0] != ' ' && isField:
			section = name
			if name == "Directory" {
				folder = strings.TrimSpace(value)
			}
		case section == "Checksums-Sha256" && len(fields) == 3:
			version := orig.FindStringSubmatch(fields[2])
			size, err := strconv.ParseInt(fields[1], 10, 64)
			if version != nil && err == nil && size > 0 && hexSHA256.MatchString(fields[0]) {
				here = append(here, release{Version: version[1], File: fields[2], SHA256: fields[0], Size: size})
			}
		}
	}
	end()
	return merge(nil, list)
}
