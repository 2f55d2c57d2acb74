package demo

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// role is how a person lives through the story.
type role int

const (
	connected role = iota
	asleep         // connected by an iPhone whose app is in the background until the end
	silent         // connected by an app that never acknowledges
	comesBack      // away while the pushes come, and back at the end
	staysAway
	loggedOut
)

// actor is one person of the story.
type actor struct {
	name   string
	user   crier.UserID
	role   role
	phone  *phone // nil: none
	tags   []string
	attrs  map[string]string
	listen *client.Listener
	stop   context.CancelFunc
	ended  chan struct{}
	awake  chan struct{} // closed when the app is in front

	mu    sync.Mutex
	got   map[crier.TaskID]int // how often each message was shown
	later map[crier.TaskID]bool
	order []uint64
}

// online reports whether the person is connected while the pushes come.
func (a *actor) online() bool { return a.role == connected || a.role == asleep || a.role == silent }

// cast makes the people. Where there are no phones, those whose parts need one play another.
func (s *story) cast() {
	person := func(name string, r role, p *phone, tags []string, level, city string) {
		a := &actor{
			name: name, user: crier.UserID(name + "-" + s.run), role: r, phone: p, tags: tags, awake: make(chan struct{}),
			got: make(map[crier.TaskID]int), later: make(map[crier.TaskID]bool),
		}
		if level != "" {
			a.attrs = map[string]string{"level": level, "city": city}
		}
		if p != nil {
			p.name(string(a.user))
		}
		if s.phones == nil {
			a.phone = nil
			a.role = map[role]role{asleep: connected, silent: connected, loggedOut: staysAway, comesBack: comesBack, staysAway: staysAway}[r]
		}
		s.people = append(s.people, a)
	}
	a, b := "stockA-"+s.run, "stockB-"+s.run
	person("ann", connected, iPhone(), []string{a}, "platinum", "Shenzhen")
	person("bob", connected, android(), []string{b}, "gold", "Shenzhen")
	person("cai", connected, nil, []string{a, b}, "platinum", "Beijing")
	person("dora", connected, nil, nil, "platinum", "Shenzhen")
	person("eli", connected, nil, []string{a}, "member", "Beijing") // unfollows
	person("fay", connected, nil, nil, "platinum", "Beijing")       // moves to Shenzhen
	person("gus", asleep, iPhone(), nil, "", "")
	person("hua", silent, android(), []string{b}, "member", "Shanghai")
	person("ivy", comesBack, iPhone(), []string{a}, "platinum", "Shenzhen")
	person("jun", comesBack, goneAndroid(), nil, "gold", "Beijing")
	person("kim", comesBack, nil, []string{b}, "member", "Shenzhen")
	person("leo", loggedOut, iPhone(), []string{a}, "platinum", "Shenzhen")
	person("mei", staysAway, android(), []string{b}, "gold", "Shenzhen")
	person("noa", staysAway, iPhone(), nil, "platinum", "Shenzhen")
}

func (s *story) find(name string) *actor {
	return s.people[slices.IndexFunc(s.people, func(a *actor) bool { return a.name == name })]
}

// names lists people, each with the phone.
func names(people []*actor) string {
	var all []string
	for _, a := range people {
		text := a.name
		if a.phone != nil {
			text += " (" + string(a.phone.platform) + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// those returns the people with one of the roles.
func (s *story) those(roles ...role) (people []*actor) {
	for _, a := range s.people {
		if slices.Contains(roles, a.role) {
			people = append(people, a)
		}
	}
	return people
}

// prepare makes the accounts, registers the phones and connects who is not away.
func (s *story) prepare(ctx context.Context) error {
	s.say(true, "the cast: %d accounts", len(s.people))
	if err := s.importAll(ctx); err != nil {
		return err
	}
	for _, a := range s.people {
		if err := s.takePlace(ctx, a); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	s.say(false, "online:     %s", names(s.those(connected)))
	for _, a := range s.those(asleep) {
		s.say(false, "            %s: the app is in the background, with %d unread", names([]*actor{a}), a.phone.unread)
	}
	for _, a := range s.those(silent) {
		s.say(false, "            %s: the app hangs, and never acknowledges", names([]*actor{a}))
	}
	s.say(false, "away:       %s", names(s.those(comesBack, staysAway)))
	if out := s.those(loggedOut); len(out) > 0 {
		s.say(false, "logged out: %s", names(out))
	}
	return nil
}

func (s *story) importAll(ctx context.Context) error {
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

// takePlace brings a person to where the story begins. A phone is registered over its own connection, as an app does; but
// for who is never connected, for whom a back end that knows the token does it.
func (s *story) takePlace(ctx context.Context, a *actor) error {
	switch {
	case a.online():
		if err := s.connect(ctx, a); err != nil || a.role != asleep {
			return err
		}
		a.listen.Background(uint32(a.phone.unread))
		return s.wait(ctx, "the app goes to the background", func(ctx context.Context) (bool, error) {
			devices, err := s.devices(ctx, a)
			return len(devices) == 1 && devices[0].BadgeBase == a.phone.unread, err
		})
	case a.phone == nil:
		return nil
	case a.role == staysAway:
		p := a.phone
		in := device{Vendor: p.vendor, Token: p.token, Target: p.target(), Platform: p.platform}
		return s.cfg.Operator(ctx, http.MethodPost, s.devicesPath(a), in, new(device))
	}
	if err := s.connect(ctx, a); err != nil {
		return err
	}
	if a.role == loggedOut {
		a.listen.Logout()
	} else {
		a.stop()
	}
	return s.wait(ctx, "the app is closed", func(ctx context.Context) (bool, error) {
		left := 1
		if a.role == loggedOut {
			left = 0
		}
		devices, err := s.devices(ctx, a)
		if err != nil || len(devices) != left {
			return false, err
		}
		presence, err := s.cfg.Client.Presence(ctx, a.user)
		return err == nil && presence[0].State == crier.Offline, err
	})
}

// connect brings an actor online and waits until the connection stands and the phone is registered.
func (s *story) connect(ctx context.Context, a *actor) error {
	up, registered, failed := make(chan struct{}, 1), make(chan error, 1), make(chan error, 1)
	cfg := s.cfg.Listen(a.user)
	cfg.Platform, cfg.NoAck = crier.PC, a.role == silent
	if a.phone != nil {
		cfg.Platform = a.phone.platform
	}
	if a.phone != nil && !s.back {
		cfg.Device = &client.Device{Vendor: a.phone.vendor, Token: a.phone.token, Target: a.phone.target()}
	} else {
		registered <- nil
	}
	cfg.OnDevice = func(err error) { offer(registered, err) }
	cfg.OnState = func(st client.State) {
		if st.Connected {
			offer(up, struct{}{})
		}
	}
	cfg.OnMessage = s.receive(a)
	var err error
	if a.listen, err = client.NewListener(cfg); err != nil {
		return err
	}
	listening, cancel := context.WithCancel(ctx)
	a.stop, a.ended = cancel, make(chan struct{})
	go func() {
		defer close(a.ended)
		failed <- a.listen.Run(listening)
	}()
	late := time.After(settle)
	for up != nil || registered != nil {
		select {
		case <-up:
			up = nil
		case err := <-registered:
			if err != nil {
				return fmt.Errorf("register the phone: %w", err)
			}
			registered = nil
		case err := <-failed:
			return fmt.Errorf("connect: %w", err)
		case <-late:
			return fmt.Errorf("connect: not within %v", settle)
		}
	}
	return nil
}

// offer sends what somebody may wait for.
func offer[T any](c chan<- T, v T) {
	select {
	case c <- v:
	default:
	}
}

// receive notes what an actor gets. An app in the background does nothing with it before it is in front again.
func (s *story) receive(a *actor) func(context.Context, *client.Message) error {
	back := s.back
	return func(ctx context.Context, m *client.Message) error {
		a.mu.Lock()
		a.got[m.Task]++
		a.later[m.Task] = back
		a.order = append(a.order, m.Seq)
		a.mu.Unlock()
		if a.role != asleep {
			return nil
		}
		select {
		case <-a.awake:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// disconnect ends the connection, if there is one.
func (a *actor) disconnect() {
	if a.stop != nil {
		a.stop()
		<-a.ended
	}
}

func (a *actor) count(task crier.TaskID) (n int, later bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.got[task], a.later[task]
}
