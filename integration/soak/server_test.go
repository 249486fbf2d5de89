package soak

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// memoryLimit is the server's memory limit in deploy/.
const memoryLimit = 512 << 20

// server is the real binary in a cgroup of its own.
type server struct {
	url    string
	dir    string
	cmd    *exec.Cmd
	cgroup string
	ended  chan struct{}
	log    *os.File
}

// startServer runs the binary with the configuration, which is JSON.
func startServer(binary, dir, config string) (*server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{url: "http://127.0.0.1:" + port, dir: dir, ended: make(chan struct{})}
	if s.cgroup, err = newCgroup(memoryLimit); err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	// The shell enters the cgroup and becomes the server.
	s.cmd = exec.Command("/bin/sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, s.cgroup, binary, "serve", "--config", file)
	s.cmd.Env = append(os.Environ(), "GOMEMLIMIT=400MiB", "WAVEPROXY_HTTP_ADDR=127.0.0.1:"+port, "WAVEPROXY_STORAGE_DIR="+filepath.Join(dir, "data"),
		"PATH="+dir+":"+os.Getenv("PATH"))
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	for range 200 {
		if resp, err := http.Get(s.url + "/healthz"); err == nil {
			resp.Body.Close()
			return s, nil
		}
		if !s.alive() {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(s.log.Name())
	return nil, fmt.Errorf("the server does not start: %.2000s", text)
}

func (s *server) alive() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	s.log.Close()
	_ = os.Remove(s.cgroup)
}

// newCgroup makes a memory cgroup, of either version.
func newCgroup(limit int64) (string, error) {
	name := "waveproxy-soak-" + strconv.Itoa(os.Getpid())
	for _, c := range []struct{ root, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"},
	} {
		path := filepath.Join(c.root, name)
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			continue
		}
		if err := os.WriteFile(filepath.Join(path, c.file), []byte(strconv.FormatInt(limit, 10)), 0o600); err == nil {
			return path, nil
		}
		_ = os.Remove(path)
	}
	return "", errors.New("no memory cgroup can be made: this needs root and a mounted cgroup file system")
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// resetPeak makes peakMemory count from now.
func (s *server) resetPeak() { _ = os.WriteFile(s.proc("clear_refs"), []byte("5"), 0o600) }

// peakMemory returns the largest resident set since resetPeak, in bytes.
func (s *server) peakMemory() int64 {
	data, _ := os.ReadFile(s.proc("status"))
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// descriptors returns the number of files that the server has open.
func (s *server) descriptors() int {
	list, _ := os.ReadDir(s.proc("fd"))
	return len(list)
}

// children returns the number of a process's running child processes. Each of its
// threads has some.
func children(pid int) int {
	n := 0
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		n += len(strings.Fields(string(data)))
	}
	return n
}

// files returns the number of files in the storage.
func (s *server) files() int {
	n := 0
	_ = filepath.WalkDir(filepath.Join(s.dir, "data"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil
	})
	return n
}

func (s *server) proc(name string) string {
	return fmt.Sprintf("/proc/%d/%s", s.cmd.Process.Pid, name)
}
