package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// stepMost bounds by how much a clock is stepped: more than NTP lets one stray, less than anything that pushes or signatures rely on.
	stepMost = 10 * time.Second
	// clockEnv names the file with the seconds by which the process's clock is off.
	clockEnv = "CHAOS_CLOCK"
)

// The time of day is the machine's, and no namespace has one of its own. So nodes are built with another time.Now, whose seconds are off by what a file says; SIGUSR1 has it read.
const (
	nowOld = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	nowNew = nowOld + "\tsec += stepped.Load()\n"
	nowEnd = "\nvar stepped atomic.Int64\n\n// StepClock makes the clock wrong by so many seconds.\nfunc StepClock(seconds int64) { stepped.Store(seconds) }\n"

	clockReader = `package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func init() {
	read := func() {
		text, _ := os.ReadFile(os.Getenv("` + clockEnv + `"))
		seconds, _ := strconv.ParseInt(string(text), 10, 64)
		time.StepClock(seconds)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			read()
		}
	}()
	read()
}
`
)

// stepping returns the sources of nodes whose clocks can be stepped; nil where this version of Go has another time.Now.
func stepping(t *testing.T) sources {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(strings.TrimSpace(string(root)), "src/time/time.go")
	source, err := os.ReadFile(path)
	if err != nil || strings.Count(string(source), nowOld) != 1 {
		t.Logf("NOT TESTED: clocks that are stepped: time.Now is not as expected in %s: %v", path, err)
		return nil
	}
	text := strings.Replace(strings.Replace(string(source), nowOld, nowNew, 1), "import (\n", "import (\n\t\"sync/atomic\"\n", 1)
	reader, err := filepath.Abs("../../cmd/crier/chaos_clock.go")
	if err != nil {
		t.Fatal(err)
	}
	return sources{path: text + nowEnd, reader: clockReader}
}

// clock is the file that says how wrong a node's clock is.
func (n *node) clock() string { return n.log + ".clock" }

// step makes the node's clock wrong, now and at its next starts; by 0: right.
func (n *node) step(by time.Duration) {
	n.t.Helper()
	if err := os.WriteFile(n.clock(), fmt.Append(nil, int64(by/time.Second)), 0o600); err != nil {
		n.t.Fatal(err)
	}
	_ = n.process.Signal(syscall.SIGUSR1) // it may have ended
}

// randomStep is forth or back.
func randomStep(random *rand.Rand) time.Duration {
	by := time.Second + time.Duration(random.Int64N(int64(stepMost)))
	if random.IntN(2) == 0 {
		by = -by
	}
	return by.Truncate(time.Second)
}
