package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/term"

	"patchproof/kernel"
	"patchproof/vmtest/initramfs"
	"patchproof/vmtest/qemu"
)

// Shell boots the last kernel of the selection with a shell on the terminal, by the
// command that a cell's record gives but for the events, so that programs print their
// results. Where in is no terminal it holds the commands to run. The guest powers
// itself off behind the shell.
func (p *Plan) Shell(ctx context.Context, in, out *os.File) error {
	files := map[string][]byte{shellScript: []byte("gosh\n" + shellEnd)}
	if !term.IsTerminal(int(in.Fd())) {
		// A guest that boots loses what comes before it listens, so they go along.
		commands, err := io.ReadAll(in)
		if err != nil {
			return fmt.Errorf("the commands for the guest: %w", err)
		}
		if len(commands) == 0 {
			return errors.New("a shell needs a terminal, or commands on its standard input; there is neither")
		}
		files = map[string][]byte{shellScript: []byte("gosh /bbin/commands\n" + shellEnd), "bbin/commands": commands}
		in = nil
	}
	built, err := p.Kernels()
	if err != nil {
		return err
	}
	tmp, remove, err := kernel.TempDir("shell")
	if err != nil {
		return err
	}
	defer remove()
	base, err := initramfs.BuildShell(ctx, p.lab.Builder.Cache)
	if err == nil {
		base, err = p.lab.WithModules(base, built[len(built)-1])
	}
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(tmp, "initramfs"), 0o700); err != nil {
		return err
	}
	s := p.shellCell().In(p.lab, built[len(built)-1])
	s.Initramfs, err = initramfs.With(tmp, base, func() ([]byte, error) { return initramfs.Archive(files, nil) })
	if err != nil {
		return err
	}
	s.Program.Name, s.Program.Command = "gosh", `"gosh /`+shellScript+`"`
	cmd, err := s.vm().OnTerminal(ctx, tmp)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if in != nil {
		cmd.Stdin = in
	}
	if err := cmd.Run(); err != nil {
		if why := qemu.Unloadable(s.Image); why != "" {
			err = fmt.Errorf("%w: %s is no kernel: %s", err, s.Image, why)
		}
		return errors.Join(ctx.Err(), fmt.Errorf("%s: %w", qemu.Binary, err))
	}
	return nil
}

// shellScript is what the guest runs.
const shellScript = "bbin/shell-and-shutdown"

// shellEnd end it. The serial line's buffer holds up to a page of what was printed last,
// and a machine that is switched off loses it: on a busy host the rest of an ls.
const shellEnd = "sleep 1\nshutdown\n"

// shellCell is the cell whose machine a person gets: of the programs that were asked
// for the first, else the first that does not slow the machine down.
func (p *Plan) shellCell() CellSpec {
	i := 0
	if p.variables["PROGRAMS"] == "" {
		i = max(i, slices.IndexFunc(p.Cells, func(s CellSpec) bool { return s.Program.Mode == qemu.Normal && !s.Program.Counted }))
	}
	return p.Cells[i]
}
