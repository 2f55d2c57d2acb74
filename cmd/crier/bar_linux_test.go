package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a terminal: what is written to the second is read from the first.
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("NOT TESTED: no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return screen, terminal
}

// On a terminal, progress is one line that is drawn again and again, what is said stands above it, and it is gone at the end.
func TestBarIsDrawnOnATerminal(t *testing.T) {
	t.Parallel()
	screen, terminal := openTerminal(t)
	shown := make(chan string, 1)
	go func() {
		var all []byte
		for b := make([]byte, 4096); !strings.Contains(string(all), "the end"); {
			n, err := screen.Read(b)
			if all = append(all, b[:n]...); err != nil {
				break
			}
		}
		shown <- string(all)
	}()
	b := newBar(terminal, "importing")
	b.set(1, 4)
	time.Sleep(150 * time.Millisecond) // a drawing is drawn anew ten times a second at most
	b.set(2, 4)
	b.say("line 7: no account")
	time.Sleep(150 * time.Millisecond)
	b.set(3, 4)
	b.finish()
	fmt.Fprintln(terminal, "the end")
	text := <-shown
	for _, want := range []string{"importing  25%", "(2/4", "line 7: no account\r\n", "importing  75%"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not shown:\n%q", want, text)
		}
	}
	lines := strings.Split(strings.ReplaceAll(strings.TrimSuffix(text, "\r\n"), "\r\n", "\n"), "\n")
	if last := lines[len(lines)-1]; len(lines) != 2 || !strings.HasSuffix(last, "the end") || strings.TrimSpace(strings.TrimSuffix(last[strings.LastIndex(last[:len(last)-1], "\r")+1:], "the end")) != "" {
		t.Errorf("what stays:\n%q", text)
	}
}
