package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	"github.com/meterworker/meterworker/internal/replay"
	"github.com/meterworker/meterworker/usage"
)

// editor has a body edited in the person's own program.
type editor struct {
	process *process
	command string // for the shell, with the file as its last argument
	folder  string
	path    string
}

// newEditor writes the body to a file that nobody else can read: indented where it is JSON.
func newEditor(p *process, l replay.Letter) (*editor, error) {
	command := cmp.Or(p.Env["VISUAL"], p.Env["EDITOR"])
	if command == "" {
		return nil, errors.New("neither VISUAL nor EDITOR is set; set one of them, or change fields by --set and --unset")
	}
	folder, err := os.MkdirTemp("", "meterworker-edit-")
	if err != nil {
		return nil, fmt.Errorf("make a file to edit: %w", err)
	}
	e := &editor{p, command, folder, filepath.Join(folder, "dead-letter-"+strconv.FormatUint(l.ID, 10)+".json")}
	text := l.Body
	var indented bytes.Buffer
	if depth(l.Body) <= deepest && utf8.Valid(l.Body) && json.Indent(&indented, l.Body, "", "  ") == nil {
		text = append(escapeJSON(indented.Bytes()), '\n')
	}
	if err := os.WriteFile(e.path, text, 0o600); err != nil {
		e.discard()
		return nil, fmt.Errorf("make a file to edit: %w", err)
	}
	return e, nil
}

func (e *editor) discard() { _ = os.RemoveAll(e.folder) } // what is left is the person's own, in a folder of theirs

// edit runs the program and returns what the file holds afterwards: compact where it is
// JSON, without the line break that editors add.
func (e *editor) edit(ctx context.Context) ([]byte, error) {
	// The variable is a command line of the person's own, as for git and others. An interrupt
	// on the keyboard is the editor's: killing it would lose what was typed.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", e.command+` "$1"`, "sh", e.path) //nolint:gosec // G204: it is meant to run what the person has set
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.process.In, e.process.Out, e.process.Err
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("the editor (%s) failed, and nothing was done: %s", e.command, err.Error()) // not wrapped: its exit code is not ours
	}
	file, err := os.Open(e.path)
	if err != nil {
		return nil, fmt.Errorf("read what was edited: %w", err)
	}
	defer func() { _ = file.Close() }() // it was read
	// Indentation goes; what is longer even so is refused by the worker's own rule.
	const most = 16 * usage.MaxBody
	text, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return nil, fmt.Errorf("read what was edited: %w", err)
	}
	var compact bytes.Buffer
	if json.Compact(&compact, text) == nil {
		return compact.Bytes(), nil
	}
	return bytes.TrimRight(text, "\r\n"), nil
}
