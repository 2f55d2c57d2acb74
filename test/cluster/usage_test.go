package cluster_test

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// usage is what a node uses.
type usage struct {
	goroutines int
	heap       int // bytes
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines and %d MB of heap", u.goroutines, u.heap>>20)
}

// usage reads what the node uses.
func (n *node) usage() (u usage, err error) {
	resp, err := asker.Get("http://" + n.place.http + "/metrics")
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return u, err
	}
	for name, value := range map[string]*int{"go_goroutines": &u.goroutines, "go_memstats_heap_inuse_bytes": &u.heap} {
		_, after, ok := strings.Cut(string(text), "\n"+name+" ")
		line, _, _ := strings.Cut(after, "\n")
		number, err := strconv.ParseFloat(line, 64)
		if !ok || err != nil {
			return u, fmt.Errorf("there is no metric %s: %w", name, err)
		}
		*value = int(number)
	}
	return u, nil
}
