package cluster_test

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// timeline is what a test has done to a cluster, when. Safe for concurrent use.
type timeline struct {
	mu    sync.Mutex
	lines []string
}

// clock is a time as nodes' logs have it, without the date.
func clock(t time.Time) string { return t.Format("15:04:05.000") }

// note keeps and prints a line.
func (c *cluster) note(format string, args ...any) {
	c.t.Helper()
	line := clock(time.Now()) + " " + fmt.Sprintf(format, args...)
	c.timeline.mu.Lock()
	c.timeline.lines = append(c.timeline.lines, line)
	c.timeline.mu.Unlock()
	c.t.Log(line)
}

// tell prints the last lines once more, in one piece, and where each node's log is.
func (c *cluster) tell() {
	const most = 60
	c.timeline.mu.Lock()
	defer c.timeline.mu.Unlock()
	lines := c.timeline.lines[max(0, len(c.timeline.lines)-most):]
	var logs strings.Builder
	for i, n := range c.nodes {
		fmt.Fprintf(&logs, "node %d: %s\n", i, n.log)
	}
	c.t.Logf("the last that was done:\n%s\n%s", strings.Join(lines, "\n"), logs.String())
}
