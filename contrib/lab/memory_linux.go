package lab

import "golang.org/x/sys/unix"

// fastest is the directory for temporary labs: memory where there is enough, because etcd waits for its disk with every
// write, and loses its leader when others keep that disk busy. "" is the usual one.
func fastest() string {
	const memory, enough = "/dev/shm", 4 << 30
	var fs unix.Statfs_t
	if unix.Statfs(memory, &fs) != nil || fs.Type != unix.TMPFS_MAGIC || fs.Bavail*uint64(fs.Bsize) < enough {
		return ""
	}
	return memory
}
