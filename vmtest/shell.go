package vmtest

import (
	"context"
	"os"
	"os/exec"

	"patchproof/kernel"
	"patchproof/vmtest/initramfs"
)

// Shell boots the last kernel of the selection with a shell on the harness's
// own terminal, by the command that a cell's record gives but for the events, so
// that programs print their results.
func (p *Plan) Shell(ctx context.Context) error {
	built, err := p.Kernels()
	if err != nil {
		return err
	}
	tmp, remove, err := kernel.TempDir("shell")
	if err != nil {
		return err
	}
	defer remove()
	s := p.Cells[0].In(p.lab, built[len(built)-1])
	if s.Initramfs, err = initramfs.BuildShell(ctx, p.lab.Builder.Cache); err != nil {
		return err
	}
	s.Program.Name, s.Program.Command = "gosh", ""
	cmd := exec.CommandContext(ctx, "sh", "-c", s.vm().Command(false))
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = tmp, os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
