package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName is the file inside the store folder that carries the lock and, for
// the person who meets it, the process id of its holder.
const lockName = "meterworker.lock"

// ErrLocked says that another server, in this process or another, works on the
// store folder.
var ErrLocked = errors.New("store folder is in use")

// folderLock is an advisory lock (flock) on a store folder. It belongs to the
// open file and not to the process, so a second one in the same process is
// refused too, and kill -9 releases it.
type folderLock struct {
	file *os.File
}

// lockFolder locks dir, which must exist, or returns an error that wraps
// ErrLocked and names the folder, the holder and the remedy.
func lockFolder(dir string) (*folderLock, error) {
	path := filepath.Join(dir, lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock store folder %q: %w; make it writable, or set METERWORKER_DATA_DIR to another folder", dir, err)
	}
	if err := flock(file); err != nil {
		defer func() { _ = file.Close() }()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, lockedError(dir, file)
		}
		return nil, fmt.Errorf("lock store folder %q: flock %s: %w; set METERWORKER_DATA_DIR to a folder on a local disk", dir, path, err)
	}
	// The pid is for people only: without it the lock holds just as well.
	if err := writePID(file); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock store folder %q: write process id: %w; is the disk full?", dir, err)
	}
	return &folderLock{file: file}, nil
}

// flock takes the lock without waiting, again when a signal interrupts it.
func flock(file *os.File) error {
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// release gives the folder back. The file stays: removing it would let a third
// process lock a new file while a second one holds the removed one.
func (l *folderLock) release() error {
	if err := l.file.Truncate(0); err != nil {
		return errors.Join(fmt.Errorf("empty %s: %w", l.file.Name(), err), l.file.Close())
	}
	return l.file.Close()
}

func writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func lockedError(dir string, file *os.File) error {
	return fmt.Errorf("%w: %q is held by %s; stop that process, connect to its server with NATS_URL, "+
		"or set METERWORKER_DATA_DIR to another folder", ErrLocked, dir, holder(file))
}

// holder describes the process that wrote the lock file; between its taking
// the lock and writing its id there is a moment without one.
func holder(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, 32))
	if err != nil {
		return "another process"
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return "another process"
	}
	if pid == os.Getpid() {
		return fmt.Sprintf("this process (pid %d)", pid)
	}
	return fmt.Sprintf("process %d", pid)
}
