// Package demo plays the three scenarios that Crier is for against a running
// server, with live receivers, and judges who got what.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// Config says against what, and how, the story is played.
type Config struct {
	Client *client.Client
	Listen func(user crier.UserID) client.ListenConfig // a receiver of the app
	Out    io.Writer
	Pace   time.Duration // a pause between the scenes
	Color  bool
}

// ErrDiffers is the error of a demo in which somebody got what was not for them,
// or did not get what was.
var ErrDiffers = errors.New("what was received differs from what should have been")

// settle is how long the demo waits for a message that should come.
const settle = 10 * time.Second

// actor is one person of the story.
type actor struct {
	name  string
	user  crier.UserID
	away  bool // at the beginning
	tags  []string
	attrs map[string]string
	stop  context.CancelFunc
	ended chan struct{}

	mu    sync.Mutex
	got   map[crier.TaskID]int // how often each message was shown
	later map[crier.TaskID]bool
	order []uint64
}

// scene is one push and who should get it.
type scene struct {
	title string
	task  crier.TaskID
	kept  bool
	why   func(*actor) (matches bool, because string)
}

// story is one run.
type story struct {
	cfg    Config
	run    string // makes the names of this run its own
	people []*actor
	scenes []*scene
	back   bool // those who were away are back: what they see now they found in the mailbox
}

// Run plays the story and prints it, ending in a table. It returns ErrDiffers if
// the table has a wrong cell. Accounts of the run are deleted at its end.
func Run(ctx context.Context, cfg Config) error {
	s := &story{cfg: cfg, run: fmt.Sprintf("%04x", rand.N(1<<16))}
	s.cast()
	defer s.cleanUp()
	for _, act := range []func(context.Context) error{s.prepare, s.christmas, s.stocks, s.platinum, s.comeBack} {
		if err := act(ctx); err != nil {
			return err
		}
		s.pause(ctx)
	}
	return s.judge()
}

func (s *story) cast() {
	person := func(name string, away bool, tags []string, level, city string) {
		a := &actor{name: name, user: crier.UserID(name + "-" + s.run), away: away, tags: tags, got: make(map[crier.TaskID]int), later: make(map[crier.TaskID]bool)}
		if level != "" {
			a.attrs = map[string]string{"level": level, "city": city}
		}
		s.people = append(s.people, a)
	}
	a, b := "stockA-"+s.run, "stockB-"+s.run
	person("ann", false, []string{a}, "platinum", "Shenzhen")
	person("bob", false, []string{b}, "gold", "Shenzhen")
	person("cai", false, []string{a, b}, "platinum", "Beijing")
	person("dora", false, nil, "platinum", "Shenzhen")
	person("eli", false, []string{a}, "member", "Beijing") // unfollows
	person("fay", false, nil, "platinum", "Beijing")       // moves to Shenzhen
	person("gus", false, nil, "", "")
	person("hua", false, []string{b}, "member", "Shanghai")
	person("ivy", true, []string{a}, "platinum", "Shenzhen") // comes back
	person("jun", true, nil, "gold", "Beijing")              // comes back
	person("kim", true, []string{b}, "member", "Shenzhen")   // comes back
	person("leo", true, []string{a}, "platinum", "Shenzhen") // stays away
}

func (s *story) find(name string) *actor {
	return s.people[slices.IndexFunc(s.people, func(a *actor) bool { return a.name == name })]
}

// say prints a line of the story; head makes it stand out.
func (s *story) say(head bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if head {
		text = "\n" + strings.ToUpper(text[:1]) + text[1:]
		if s.cfg.Color {
			text = "\x1b[1m" + text + "\x1b[0m"
		}
	} else {
		text = "  " + text
	}
	fmt.Fprintln(s.cfg.Out, text)
}

func (s *story) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(s.cfg.Pace):
	}
}

// prepare makes the accounts and connects who is not away.
func (s *story) prepare(ctx context.Context) error {
	s.say(true, "the cast: %d accounts, some online, some away", len(s.people))
	users := make([]crier.UserID, len(s.people))
	tags, attrs := make(map[crier.UserID][]string), make(map[crier.UserID]map[string]string)
	for i, a := range s.people {
		users[i] = a.user
		if a.tags != nil {
			tags[a.user] = a.tags
		}
		if a.attrs != nil {
			attrs[a.user] = a.attrs
		}
	}
	c := s.cfg.Client
	if err := c.Import(ctx, users...); err != nil {
		return fmt.Errorf("import the accounts: %w", err)
	}
	if err := s.nameAttributes(ctx); err != nil {
		return err
	}
	if err := c.AddTags(ctx, tags); err != nil {
		return fmt.Errorf("add tags: %w", err)
	}
	if err := c.SetAttrs(ctx, attrs); err != nil {
		return fmt.Errorf("set attributes: %w", err)
	}
	var online, away []string
	for _, a := range s.people {
		if a.away {
			away = append(away, a.name)
			continue
		}
		online = append(online, a.name)
		if err := s.connect(ctx, a); err != nil {
			return err
		}
	}
	s.say(false, "online: %s", strings.Join(online, ", "))
	s.say(false, "away:   %s", strings.Join(away, ", "))
	return nil
}

// nameAttributes makes sure that the app has the attributes level and city.
func (s *story) nameAttributes(ctx context.Context) error {
	names, err := s.cfg.Client.AttrNames(ctx)
	if err != nil {
		return fmt.Errorf("read the attribute names: %w", err)
	}
	set := make(map[int]string)
	for _, want := range []string{"level", "city"} {
		have := false
		for _, name := range names {
			have = have || name == want
		}
		for slot := 0; !have && slot < crier.MaxAttrs; slot++ {
			if names[slot] == "" && set[slot] == "" {
				set[slot], have = want, true
			}
		}
		if !have {
			return fmt.Errorf("the app has no free slot for the attribute %q", want)
		}
	}
	if len(set) == 0 {
		return nil
	}
	return s.cfg.Client.SetAttrNames(ctx, set)
}

// connect brings an actor online and waits until the connection stands.
func (s *story) connect(ctx context.Context, a *actor) error {
	listening, cancel := context.WithCancel(ctx)
	a.stop, a.ended = cancel, make(chan struct{})
	up := make(chan struct{}, 1)
	cfg := s.cfg.Listen(a.user)
	cfg.Platform = crier.Android
	cfg.OnState = func(st client.State) {
		if st.Connected {
			select {
			case up <- struct{}{}:
			default:
			}
		}
	}
	back := s.back
	cfg.OnMessage = func(_ context.Context, m *client.Message) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.got[m.Task]++
		a.later[m.Task] = back
		a.order = append(a.order, m.Seq)
		return nil
	}
	failed := make(chan error, 1)
	go func() {
		defer close(a.ended)
		failed <- client.Listen(listening, cfg)
	}()
	select {
	case <-up:
		return nil
	case err := <-failed:
		return fmt.Errorf("connect %s: %w", a.name, err)
	case <-time.After(settle):
		return fmt.Errorf("connect %s: not within %v", a.name, settle)
	}
}

// push sends one scene's message and waits until its campaign is done.
func (s *story) push(ctx context.Context, sc *scene, p client.Push) error {
	sc.kept = p.LifeTime > 0
	task, err := s.cfg.Client.Push(ctx, p)
	if err != nil {
		return fmt.Errorf("%s: %w", sc.title, err)
	}
	sc.task = task
	s.scenes = append(s.scenes, sc)
	for deadline := time.Now().Add(settle); ; {
		reports, err := s.cfg.Client.Report(ctx, task)
		if err != nil {
			return fmt.Errorf("%s: report: %w", sc.title, err)
		}
		if r := reports[0]; r.Status == crier.StatusDone {
			s.say(false, "task %s: matched %d accounts", task, r.Total)
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not done within %v", sc.title, settle)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// christmas pushes to all. Other accounts of the app get it too: the demo is for a
// server of its own.
func (s *story) christmas(ctx context.Context) error {
	s.say(true, "1. Christmas: a game tells every player of its event, and keeps the message for 7 days")
	return s.push(ctx, &scene{title: "Christmas, to all", why: func(*actor) (bool, string) { return true, "everyone" }},
		client.Push{Text: "Merry Christmas! Double gems until New Year.", LifeTime: 7 * 24 * time.Hour, Offline: &client.OfflinePush{Title: "Christmas event"}})
}

func (s *story) stocks(ctx context.Context) error {
	a, b := "stockA-"+s.run, "stockB-"+s.run
	s.say(true, "2. Stocks: a product for whoever follows stock A or stock B; eli has just unfollowed")
	eli := s.find("eli")
	if err := s.cfg.Client.RemoveTags(ctx, map[crier.UserID][]string{eli.user: {a}}); err != nil {
		return fmt.Errorf("eli unfollows: %w", err)
	}
	eli.tags = nil
	return s.push(ctx, &scene{title: "Stocks, by tags", why: func(p *actor) (bool, string) {
		for _, t := range p.tags {
			if t == a || t == b {
				return true, "follows " + strings.TrimSuffix(t, "-"+s.run)
			}
		}
		if p.name == "eli" {
			return false, "unfollowed"
		}
		return false, "follows neither"
	}}, client.Push{Text: "A plan for your stocks.", LifeTime: time.Hour, Condition: crier.ConditionSpec{TagsOr: []string{a, b}}})
}

func (s *story) platinum(ctx context.Context) error {
	s.say(true, "3. Platinum in Shenzhen: an offer for platinum members in one city, online only; fay has just moved there")
	fay := s.find("fay")
	if err := s.cfg.Client.SetAttrs(ctx, map[crier.UserID]map[string]string{fay.user: {"city": "Shenzhen"}}); err != nil {
		return fmt.Errorf("fay moves: %w", err)
	}
	fay.attrs["city"] = "Shenzhen"
	return s.push(ctx, &scene{title: "Platinum, by attributes", why: func(p *actor) (bool, string) {
		switch {
		case p.attrs == nil:
			return false, "no attributes"
		case p.attrs["level"] != "platinum":
			return false, p.attrs["level"]
		case p.attrs["city"] != "Shenzhen":
			return false, "in " + p.attrs["city"]
		case p.name == "fay":
			return true, "moved here"
		}
		return true, "platinum here"
	}}, client.Push{Text: "Tonight in Shenzhen, for you.", Condition: crier.ConditionSpec{AttrsAnd: map[string]string{"level": "platinum", "city": "Shenzhen"}}})
}

// comeBack lets some who were away log in: their mailbox comes, in order.
func (s *story) comeBack(ctx context.Context) error {
	s.say(true, "4. ivy, jun and kim come back and find what was kept for them; leo stays away")
	s.back = true
	for _, name := range []string{"ivy", "jun", "kim"} {
		if err := s.connect(ctx, s.find(name)); err != nil {
			return err
		}
	}
	s.await()
	return nil
}

// expects reports whether the actor should have the message, and why.
func (s *story) expects(a *actor, sc *scene) (bool, string) {
	matches, because := sc.why(a)
	switch {
	case !matches:
		return false, because
	case a.away && !sc.kept:
		return false, "was away"
	case a.stop == nil:
		return false, "still away: kept"
	}
	return true, because
}

// await waits until everybody has what they should, settle at most.
func (s *story) await() {
	for deadline := time.Now().Add(settle); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		missing := false
		for _, a := range s.people {
			for _, sc := range s.scenes {
				want, _ := s.expects(a, sc)
				missing = missing || want && a.count(sc.task) == 0
			}
		}
		if !missing {
			return
		}
	}
}

func (a *actor) count(task crier.TaskID) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.got[task]
}

// judge prints who got what, and why.
func (s *story) judge() error {
	s.say(true, "who got what, and why")
	w := tabwriter.NewWriter(s.cfg.Out, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "  \t")
	for _, sc := range s.scenes {
		fmt.Fprintf(w, "%s\t", sc.title)
	}
	fmt.Fprintln(w)
	wrong := 0
	for _, a := range s.people {
		fmt.Fprintf(w, "  %s\t", a.name)
		for _, sc := range s.scenes {
			cell, ok := s.cell(a, sc)
			if !ok {
				wrong++
			}
			fmt.Fprintf(w, "%s\t", cell)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, a := range s.people {
		if !slices.IsSorted(a.order) {
			wrong++
			s.say(false, "%s got messages out of order: %v", a.name, a.order)
		}
	}
	if wrong > 0 {
		s.say(true, "%d things differ from what should have been", wrong)
		return ErrDiffers
	}
	s.say(true, "every message reached whom it was for, once, and nobody else")
	return nil
}

// cell says what one actor got of one push, and whether that is right.
func (s *story) cell(a *actor, sc *scene) (text string, ok bool) {
	want, because := s.expects(a, sc)
	n := a.count(sc.task)
	switch {
	case n > 1:
		return fmt.Sprintf("WRONG: %d times", n), false
	case want && n == 0:
		return "MISSING (" + because + ")", false
	case !want && n > 0:
		return "WRONG: got it (" + because + ")", false
	case n == 1 && a.later[sc.task]:
		return "mailbox (" + because + ")", true
	case n == 1:
		return "live (" + because + ")", true
	}
	return "- (" + because + ")", true
}

// cleanUp disconnects everybody and deletes the accounts.
func (s *story) cleanUp() {
	users := make([]crier.UserID, len(s.people))
	for i, a := range s.people {
		users[i] = a.user
		if a.stop != nil {
			a.stop()
			<-a.ended
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	if _, err := s.cfg.Client.Delete(ctx, users...); err != nil {
		s.say(false, "the accounts of this run could not be deleted: %v", err)
	}
}
