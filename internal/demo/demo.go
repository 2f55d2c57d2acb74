// Package demo plays the three scenarios that Crier is for against a running
// server, with live receivers and simulated phones, and judges who got what.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// Config says against what, and how, the story is played.
type Config struct {
	Client *client.Client
	Listen func(user crier.UserID) client.ListenConfig // a receiver of the app
	// Operator calls the operator's API; nil: nobody is asked what the server says of each person, and nobody has a phone.
	Operator Operator
	// Page and FCM are the addresses of the simulators that the server sends notifications to; "": nobody has a phone.
	Page, FCM string
	Out       io.Writer
	Pace      time.Duration // a pause between the scenes
	Color     bool
	Keep      bool // leave the accounts at the end
}

// Operator makes one call of the operator's API: it sends in, unless that is nil, and reads the answer into out.
type Operator func(ctx context.Context, method, path string, in, out any) error

// ErrDiffers is the error of a demo in which somebody got what was not for them,
// or did not get what was, or of whom the server told something else.
var ErrDiffers = errors.New("what was received differs from what should have been")

// settle is how long the demo waits for what should come.
const settle = 20 * time.Second

// story is one run.
type story struct {
	cfg      Config
	run      string // makes the names of this run its own
	people   []*actor
	scenes   []*scene
	phones   *phones       // nil: nobody has one
	fallback time.Duration // the app's fallback_after; 0: vendors are told only of who is away
	back     bool          // those who were away are back: what they see now they found in the mailbox
}

// Run plays the story and prints it, ending in a table. It returns ErrDiffers if
// the table has a wrong line. Accounts of the run are deleted at its end.
func Run(ctx context.Context, cfg Config) error {
	s := &story{cfg: cfg, run: fmt.Sprintf("%04x", rand.N(1<<16))}
	if err := s.findPhones(ctx); err != nil {
		return err
	}
	s.cast()
	defer s.cleanUp()
	for _, act := range []func(context.Context) error{s.prepare, s.christmas, s.stocks, s.platinum, s.fallBack, s.comeBack} {
		if err := act(ctx); err != nil {
			return err
		}
		s.pause(ctx)
	}
	return s.end(ctx)
}

// findPhones looks whether the story can have phones, and says so where it can't.
func (s *story) findPhones(ctx context.Context) error {
	if s.cfg.Operator == nil || s.cfg.Page == "" || s.cfg.FCM == "" {
		s.say(false, "Without phones: the server was not started with --demo, or its operator's token is not known here.")
		return nil
	}
	p := &phones{page: strings.TrimSuffix(s.cfg.Page, "/"), fcm: strings.TrimSuffix(s.cfg.FCM, "/")}
	if _, err := p.shown(ctx); err != nil {
		s.say(false, "Without phones: the simulators that should be there do not answer (%v).", err)
		return nil
	}
	var app struct {
		Limits struct {
			FallbackAfter float64 `json:"fallback_after"`
		} `json:"limits"`
	}
	if err := s.cfg.Operator(ctx, http.MethodGet, "/v1/apps/"+s.cfg.Client.App().String(), nil, &app); err != nil {
		return fmt.Errorf("ask for the app: %w", err)
	}
	s.phones, s.fallback = p, time.Duration(app.Limits.FallbackAfter*float64(time.Second))
	s.say(false, "See the iPhones in a browser: %s/", p.page)
	return nil
}

// Say prints a line of a story; head makes it stand out.
func Say(out io.Writer, color, head bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if head {
		text = "\n" + strings.ToUpper(text[:1]) + text[1:]
		if color {
			text = "\x1b[1m" + text + "\x1b[0m"
		}
	} else {
		text = "  " + text
	}
	fmt.Fprintln(out, text)
}

// say prints a line of the story; head makes it stand out.
func (s *story) say(head bool, format string, args ...any) {
	Say(s.cfg.Out, s.cfg.Color, head, format, args...)
}

func (s *story) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(s.cfg.Pace):
	}
}

// wait polls until something holds. The error says what did not, within settle and the time that vendors are held back.
func (s *story) wait(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	most := settle + s.fallback
	for deadline := time.Now().Add(most); ; {
		ok, err := holds(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case ok:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s: not within %v", what, most)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// cleanUp disconnects everybody and deletes the accounts.
func (s *story) cleanUp() {
	users := make([]crier.UserID, len(s.people))
	for i, a := range s.people {
		users[i] = a.user
		a.disconnect()
	}
	if s.cfg.Keep {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	if _, err := s.cfg.Client.Delete(ctx, users...); err != nil {
		s.say(false, "the accounts of this run could not be deleted: %v", err)
	}
}
