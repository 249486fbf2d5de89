package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many links Linux follows for one name.
const maxLinks = 40

// loopError says that a name leads through too many links.
type loopError struct{ name, link string }

func (e *loopError) Error() string {
	return fmt.Sprintf("%s leads through more than %d links, such as %s", e.name, maxLinks, e.link)
}

// place is where a name leads in a root file system. All of its directories are
// real ones, so that the system's own calls do not leave the root.
type place struct {
	path string // on this machine
	// missing are the directories on the way that do not exist, the highest first. In
	// the place of one can be a file.
	missing []string
	// byHand says that tar would not make them, because a link leads to one or a file
	// is in the place of one.
	byHand bool
}

// resolve follows the directories of a clean name in the file system below root, as a
// process chrooted to root would. The last element is not followed.
func resolve(root, name string) (place, error) {
	at := place{path: root}
	type element struct {
		name string
		link bool // it comes from a link's target
	}
	var todo []element
	push := func(text string, link bool) {
		var more []element
		for _, e := range strings.Split(text, "/") {
			if e != "" && e != "." {
				more = append(more, element{e, link})
			}
		}
		todo = append(more, todo...)
	}
	push(name, false)
	if len(todo) == 0 {
		return at, nil
	}
	last := todo[len(todo)-1].name
	todo = todo[:len(todo)-1]
	links := 0
	for len(todo) > 0 {
		e := todo[0]
		todo = todo[1:]
		if e.name == ".." {
			if at.path != root {
				at.path = filepath.Dir(at.path)
			}
			continue
		}
		next := filepath.Join(at.path, e.name)
		stat, err := os.Lstat(next)
		switch {
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
			at.missing, at.byHand = append(at.missing, next), at.byHand || e.link
			at.path = next
		case err != nil:
			return place{}, err
		case stat.Mode()&os.ModeSymlink != 0:
			if links++; links > maxLinks {
				return place{}, &loopError{name, next[len(root)+1:]}
			}
			target, err := os.Readlink(next)
			if err != nil {
				return place{}, err
			}
			if strings.HasPrefix(target, "/") {
				at.path = root
			}
			push(target, true)
		case stat.IsDir():
			at.path = next
		default: // a file where a directory is needed
			at.missing, at.byHand = append(at.missing, next), true
			at.path = next
		}
	}
	at.path = filepath.Join(at.path, last)
	return at, nil
}
