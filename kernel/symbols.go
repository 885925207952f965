package kernel

import (
	"bytes"
	"context"
	"debug/dwarf"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"patchproof/patches/regular"
)

// Symbols finds the places of a kernel's code in its patched source. It reads
// nothing before it is asked, and each thing once. Its methods may be called
// from any goroutine.
type Symbols struct {
	// vmlinux is the ELF image, src the repository that has commit, on whose base
	// are the patches.
	vmlinux, src, commit string
	// modules is an archive of its modules, which need not be there.
	modules string
	patches int
	// touched are the files that the patches change.
	touched []string

	mu     sync.Mutex
	loaded bool
	err    error
	image
	// ofModules are the images of modules by their names, nil for one that is not there.
	ofModules map[string]*image
	files     map[string]*blamed
}

// image is what is known of a file with code.
type image struct {
	// symbols are the functions by name: static ones may share it.
	symbols map[string][]elf.Symbol
	// debug is nil for an image without debug info.
	debug *dwarf.Data
}

// Frame is a place in the kernel's source.
type Frame struct {
	// Function is the function whose code it is, as far as the kernel told it or
	// the debug info does; Inlined says that the next frame is its caller.
	Function string
	Inlined  bool
	// File and Line are of the patched source. Without debug info the line is 0,
	// and the file is known for functions in files that the patches touch.
	File string
	Line int
	// Patch is the number, from 1, of the patch that added the line, 0 for a line
	// of the base. Without a line it is the last patch that changed the function.
	Patch int
}

// blamed is a file of the patched source.
type blamed struct {
	// Lines holds the text, Patch the patch that added it.
	Lines []string
	Patch []int
}

// touchedFile is beside a kernel in the store and goes with it to other machines, which find the
// places of the patches without the source.
const touchedFile = "touched.json"

// touchedFiles is what it holds: the files that the patches change.
type touchedFiles struct {
	Patches int
	Files   map[string]*blamed
}

// mostTouched is for how many files it is written. A series across the tree would add more to
// a kernel than the kernel has, and take minutes to look through.
const mostTouched = 100

func (b *Builder) symbols(spec Spec, dir, commit string) *Symbols {
	s := &Symbols{vmlinux: filepath.Join(dir, "vmlinux"), src: tree{dir: b.treeDir(spec)}.src(), commit: commit, patches: len(spec.Patches())}
	s.modules = filepath.Join(dir, modulesFile)
	if debug := filepath.Join(dir, debugModulesFile); exists(debug) {
		s.modules = debug
	}
	for _, p := range spec.Patches() {
		for _, f := range p.Files {
			if !f.IsDelete && !slices.Contains(s.touched, f.New) {
				s.touched = append(s.touched, f.New)
			}
		}
	}
	return s
}

// ImageSymbols are those of a vmlinux that was built elsewhere. Nothing is known of its
// patches.
func ImageSymbols(vmlinux string) *Symbols { return &Symbols{vmlinux: vmlinux} }

// HaveLines says whether the image has debug info, without which no lines are known.
func (s *Symbols) HaveLines() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.loadOnce()
	return s.debug != nil, err
}

// loadOnce reads the image when it is first asked for.
func (s *Symbols) loadOnce() error {
	if !s.loaded {
		s.loaded, s.err = true, s.load()
	}
	return s.err
}

// Frames returns the place of function+offset, where the function has size
// bytes, and after it, when the code there was inlined, the places that it was
// inlined into. It is one of the module, where that is named. called says that the
// address is one to return to, as those of a stack are, and the call before it is
// meant. It returns nothing for a function that is not the kernel's or the module's.
func (s *Symbols) Frames(ctx context.Context, module, function string, offset, size uint64, called bool) ([]Frame, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.loadOnce(); err != nil {
		return nil, err
	}
	in := &s.image
	if module != "" {
		var err error
		if in, err = s.module(module); err != nil || in == nil {
			return nil, err
		}
	}
	symbol, ok := in.symbol(function, size)
	if !ok || offset > size {
		return nil, nil
	}
	pc := symbol.Value + offset
	if called && offset > 0 {
		pc--
	}
	frames, err := in.lookUp(pc)
	if err != nil {
		return nil, err
	}
	if len(frames) == 0 {
		frames = []Frame{{Function: function}}
	}
	for i := range frames {
		if err := s.mark(ctx, &frames[i]); err != nil {
			return nil, err
		}
	}
	return frames, nil
}

// symbol returns the function of that name and size. The size that the kernel
// prints reaches to the next symbol, so the largest that fits is meant.
func (i *image) symbol(name string, size uint64) (elf.Symbol, bool) {
	var best elf.Symbol
	found := false
	for _, symbol := range i.symbols[name] {
		if symbol.Size <= size && (!found || symbol.Size > best.Size) {
			best, found = symbol, true
		}
	}
	return best, found
}

// load reads the symbols, and the debug info if there is one.
func (s *Symbols) load() error {
	f, err := elf.Open(s.vmlinux)
	if err != nil {
		return fmt.Errorf("the symbols of %s: %w", s.vmlinux, err)
	}
	defer f.Close()
	if err := s.image.read(f); err != nil {
		return fmt.Errorf("%s: %w", s.vmlinux, err)
	}
	s.ofModules, s.files = map[string]*image{}, map[string]*blamed{}
	s.readTouched()
	return nil
}

// read reads what is known of a file.
func (i *image) read(f *elf.File) error {
	all, err := f.Symbols()
	if err != nil {
		return fmt.Errorf("its symbols: %w", err)
	}
	i.symbols = map[string][]elf.Symbol{}
	for _, symbol := range all {
		if kind := elf.ST_TYPE(symbol.Info); symbol.Section != elf.SHN_UNDEF && (kind == elf.STT_FUNC || kind == elf.STT_NOTYPE) {
			i.symbols[symbol.Name] = append(i.symbols[symbol.Name], symbol)
		}
	}
	if f.Section(".debug_info") == nil {
		return nil
	}
	if i.debug, err = f.DWARF(); err != nil {
		return fmt.Errorf("its debug info: %w", err)
	}
	return nil
}

// module returns what is known of a module, nil where nothing is.
func (s *Symbols) module(name string) (*image, error) {
	if found, ok := s.ofModules[name]; ok {
		return found, nil
	}
	all, err := readModules(s.modules)
	if err != nil {
		return nil, err
	}
	s.ofModules[name] = nil
	for file, text := range all {
		// Files have hyphens where names have underscores; one that is compressed is not read.
		base, ok := strings.CutSuffix(filepath.Base(file), ".ko")
		if !ok || strings.ReplaceAll(base, "-", "_") != name {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(laidOut(text)))
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		found := &image{}
		if err := found.read(f); err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		s.ofModules[name] = found
	}
	return s.ofModules[name], nil
}

// readTouched takes what is stored of the patched files, where it fits the patches.
func (s *Symbols) readTouched() {
	text, err := regular.ReadFile(filepath.Join(filepath.Dir(s.vmlinux), touchedFile))
	var t touchedFiles
	if err != nil || json.Unmarshal(text, &t) != nil || t.Patches != s.patches {
		return // The repository is asked.
	}
	for name, file := range t.Files {
		unknown := func(patch int) bool { return patch < 0 || patch > t.Patches }
		if file != nil && len(file.Lines) == len(file.Patch) && !slices.ContainsFunc(file.Patch, unknown) {
			s.files[name] = file
		}
	}
}

// writeTouched writes into a file what readTouched takes, and nothing where there is none.
func (s *Symbols) writeTouched(ctx context.Context, to string) (written bool, err error) {
	if len(s.touched) == 0 || len(s.touched) > mostTouched {
		return false, nil
	}
	s.files = map[string]*blamed{}
	for _, name := range s.touched {
		// A submodule has no lines.
		if kind, err := git(ctx, s.src, "cat-file", "-t", s.commit+":"+name); err != nil || kind != "blob" {
			continue
		}
		if _, err := s.file(ctx, name); err != nil {
			return false, err
		}
	}
	text, err := json.Marshal(touchedFiles{s.patches, s.files})
	if err != nil {
		return false, err
	}
	return true, writeAtomic(to, string(text))
}

// lookUp returns the places of an address, the innermost first; none without
// debug info, as an assembler file may be.
func (i *image) lookUp(pc uint64) ([]Frame, error) {
	if i.debug == nil {
		return nil, nil
	}
	r := i.debug.Reader()
	unit, err := r.SeekPC(pc)
	if errors.Is(err, dwarf.ErrUnknownPC) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines, err := i.debug.LineReader(unit)
	if err != nil || lines == nil {
		return nil, err
	}
	at, err := lineAt(lines, pc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	chain, err := i.chain(r, pc)
	if err != nil {
		return nil, err
	}
	// The build's folder lies beside the source's, or is the source's where somebody else
	// has built the kernel.
	folder, _ := unit.Val(dwarf.AttrCompDir).(string)
	relative := func(f *dwarf.LineFile) string {
		if f == nil {
			return ""
		}
		name := strings.TrimPrefix(f.Name, filepath.Join(filepath.Dir(folder), "src")+"/")
		return filepath.Clean(strings.TrimPrefix(name, folder+"/"))
	}
	files := lines.Files()
	place := Frame{File: relative(at.File), Line: at.Line}
	var frames []Frame
	for depth, entry := range slices.Backward(chain) {
		place.Function, place.Inlined = i.nameOf(entry), depth > 0
		frames = append(frames, place)
		line, _ := entry.Val(dwarf.AttrCallLine).(int64)
		file, _ := entry.Val(dwarf.AttrCallFile).(int64)
		place = Frame{Line: int(line)}
		if file >= 0 && int(file) < len(files) {
			place.File = relative(files[file])
		}
	}
	return frames, nil
}

// lineAt returns the row of a line table that has pc, or io.EOF. The table's
// SeekPC gives up at a sequence of higher addresses, and a kernel's code lies in
// several sections in no order.
func lineAt(table *dwarf.LineReader, pc uint64) (dwarf.LineEntry, error) {
	last := dwarf.LineEntry{EndSequence: true}
	for {
		var row dwarf.LineEntry
		if err := table.Next(&row); err != nil {
			return dwarf.LineEntry{}, err
		}
		if !last.EndSequence && last.Address <= pc && pc < row.Address {
			return last, nil
		}
		last = row
	}
}

// chain returns the function that has pc, and from the outermost to the
// innermost what is inlined there. r has just read the unit.
func (i *image) chain(r *dwarf.Reader, pc uint64) ([]*dwarf.Entry, error) {
	var chain []*dwarf.Entry
	for {
		entry, err := r.Next()
		if err != nil {
			return nil, err
		}
		if entry == nil || entry.Tag == dwarf.TagCompileUnit || entry.Tag == 0 {
			// The end of the innermost that has pc, or of the unit.
			return chain, nil
		}
		inside := false
		switch entry.Tag {
		case dwarf.TagSubprogram, dwarf.TagInlinedSubroutine, dwarf.TagLexDwarfBlock:
			ranges, err := i.debug.Ranges(entry)
			if err != nil {
				return nil, err
			}
			inside = slices.ContainsFunc(ranges, func(r [2]uint64) bool { return r[0] <= pc && pc < r[1] })
		}
		if !inside {
			r.SkipChildren()
			continue
		}
		if entry.Tag != dwarf.TagLexDwarfBlock {
			chain = append(chain, entry)
		}
		if !entry.Children {
			return chain, nil
		}
	}
}

// nameOf is a function's name, which an inlined or split one has elsewhere.
func (i *image) nameOf(entry *dwarf.Entry) string {
	for range 4 {
		if name, ok := entry.Val(dwarf.AttrName).(string); ok {
			return name
		}
		origin, ok := entry.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
		if !ok {
			if origin, ok = entry.Val(dwarf.AttrSpecification).(dwarf.Offset); !ok {
				return ""
			}
		}
		r := i.debug.Reader()
		r.Seek(origin)
		next, err := r.Next()
		if err != nil || next == nil {
			return ""
		}
		entry = next
	}
	return ""
}

// mark says which patch the frame is of.
func (s *Symbols) mark(ctx context.Context, f *Frame) error {
	if f.Line > 0 {
		if !slices.Contains(s.touched, f.File) {
			return nil
		}
		file, err := s.file(ctx, f.File)
		if err == nil && f.Line <= len(file.Patch) {
			f.Patch = file.Patch[f.Line-1]
		}
		return err
	}
	for _, name := range s.touched {
		if filepath.Ext(name) != ".c" {
			continue
		}
		file, err := s.file(ctx, name)
		if err != nil {
			return err
		}
		if last, ok := file.changed(f.Function); ok {
			f.File, f.Patch = name, last
			return nil
		}
	}
	return nil
}

// changed returns the last patch that changed a function which the file
// defines, 0 if none did.
func (b *blamed) changed(function string) (patch int, ok bool) {
	// A part of a function that the compiler split off: io_free_req.part.0.
	function, _, _ = strings.Cut(function, ".")
	definition := regexp.MustCompile(`^[a-z].*\b` + regexp.QuoteMeta(function) + `\(`)
	for i, line := range b.Lines {
		if !definition.MatchString(line) || strings.HasSuffix(line, ";") {
			continue
		}
		length := slices.Index(b.Lines[i:], "}")
		if length < 0 {
			continue
		}
		return slices.Max(b.Patch[i : i+length+1]), true
	}
	return 0, false
}

// file returns a file of the patched source with the patch of each line.
func (s *Symbols) file(ctx context.Context, name string) (*blamed, error) {
	if file, ok := s.files[name]; ok {
		return file, nil
	}
	base := fmt.Sprintf("%s~%d", s.commit, s.patches)
	commits, err := git(ctx, s.src, "rev-list", "--reverse", base+".."+s.commit)
	if err != nil {
		return nil, fmt.Errorf("the patches of the kernel: %w", err)
	}
	text, err := git(ctx, s.src, "blame", "--porcelain", base+".."+s.commit, "--", name)
	if err != nil {
		return nil, fmt.Errorf("which patch added what to %s: %w", name, err)
	}
	file := parseBlame(text, strings.Fields(commits))
	s.files[name] = file
	return file, nil
}

// blameLine begins the entry of a line: its commit, its number there and here.
var blameLine = regexp.MustCompile(`^([0-9a-f]{40}) \d+ \d+`)

// parseBlame reads git blame's porcelain format (git-blame(1)). commits are
// those of the patches, in order.
func parseBlame(text string, commits []string) *blamed {
	file := &blamed{}
	patch := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if code, ok := strings.CutPrefix(line, "\t"); ok {
			file.Lines, file.Patch = append(file.Lines, code), append(file.Patch, patch)
		} else if m := blameLine.FindStringSubmatch(line); m != nil {
			patch = slices.Index(commits, m[1]) + 1
		}
	}
	return file
}
