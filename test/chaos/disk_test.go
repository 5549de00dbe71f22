//go:build chaos

package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// disk is an ext4 file system in a file, mounted through a loop device. What was not
// synced is in the page cache of that file system only: the file holds what has
// reached the device, and nothing else (direct I/O leaves the loop device no cache).
type disk struct {
	t      testing.TB
	image  string
	folder string // where it is mounted
}

const diskSize = "512M"

// newDisk makes the file system and mounts it. It needs root, mkfs.ext4 and loop
// devices, and fails without them.
func newDisk(t testing.TB) *disk {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	system(t, "truncate", "-s", diskSize, image)
	system(t, "mkfs.ext4", "-q", "-F", image)
	return mount(t, image)
}

// mount attaches an image and mounts it, which replays its file system's journal. It is
// unmounted and detached with the test, whatever happens.
func mount(t testing.TB, image string) *disk {
	t.Helper()
	device := strings.TrimSpace(system(t, "losetup", "--find", "--show", "--direct-io=on", image))
	folder := t.TempDir()
	t.Cleanup(func() { system(t, "losetup", "--detach", device) })
	system(t, "mount", "-t", "ext4", device, folder)
	t.Cleanup(func() { system(t, "umount", folder) })
	return &disk{t, image, folder}
}

// system runs a program of the operating system.
func system(t testing.TB, program string, args ...string) string {
	t.Helper()
	output, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s\nThis test needs root, e2fsprogs, mount and util-linux.", program, strings.Join(args, " "), err, output)
	}
	return string(output)
}

// How ext4 is told to stop at once: nothing more reaches the device, neither data nor
// the journal's log (linux/fs/ext4: EXT4_IOC_SHUTDOWN with GOING_FLAGS_NOLOGFLUSH).
const (
	shutdownRequest = 0x8004587d // _IOR('X', 125, __u32)
	withoutFlush    = 2
)

// sync writes everything that is in the page cache.
func (d *disk) sync() {
	d.t.Helper()
	system(d.t, "sync", "--file-system", d.folder)
}

// cutPower ends all writing to the device in one instant, while the server runs, and
// returns a copy of what had reached it by then.
func (d *disk) cutPower(copyTo string) {
	d.t.Helper()
	root, err := os.Open(d.folder)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if err := unix.IoctlSetPointerInt(int(root.Fd()), shutdownRequest, withoutFlush); err != nil {
		d.t.Fatalf("the file system cannot be stopped: %v", err)
	}
	system(d.t, "cp", "--sparse=always", d.image, copyTo)
}
