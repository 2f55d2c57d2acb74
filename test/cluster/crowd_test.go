package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

const (
	crowdApp  = appID + 1
	crowdSize = 24
	pushers   = 2
	// pushPause is the mean pause between two pushes of a pusher.
	pushPause = 150 * time.Millisecond
	// againEvery is of how many pushes one is sent once more.
	againEvery = 7
	// reportEvery is how often it is asked how far pushes are.
	reportEvery = 200 * time.Millisecond
)

// crowd is accounts that get pushes, all of them with a receiver that comes and goes, and what they must have been shown. What an account has never
// changes, but for the tag "swings" of every third, so that it is known whom a push matches.
type crowd struct {
	c       *cluster
	members []*member
	vendor  *vendor // that notifies those with a phone
	randoms atomic.Uint32

	mu     sync.Mutex
	pushes map[crier.TaskID]*push // of this round
	old    map[crier.TaskID]bool  // of the rounds before
}

// member is one account.
type member struct {
	number int
	user   crier.UserID
	store  client.Store // what its device remembers

	mu     sync.Mutex
	swings []swing // in order; the last that has ended tells what is
	shown  []show
	last   uint64 // place of the last push that it was shown, in all rounds
}

// swing is a change of the tag: it may be done from began to ended, and if nobody knows whether it was, at any time from began on.
type swing struct {
	on           bool
	began, ended time.Time
	unknown      bool
}

// show is a message that a receiver has shown. since is when it began to log in.
type show struct {
	task  crier.TaskID
	seq   uint64
	since time.Time
}

// push is a push that was acknowledged.
type push struct {
	task            crier.TaskID
	random          uint32
	kept            bool
	who             *audience
	began, accepted time.Time
	done            time.Time // when it was first known that it was; zero: it is not yet
	total           uint64
}

// audience is a condition, and whom of the crowd it matches, by number and by whether the tag is there.
type audience struct {
	name    string
	spec    crier.ConditionSpec
	matches func(number int, swings bool) bool
}

var audiences = []*audience{
	{"all", crier.ConditionSpec{}, func(int, bool) bool { return true }},
	{"even", crier.ConditionSpec{TagsOr: []string{"even"}}, func(i int, _ bool) bool { return i%2 == 0 }},
	{"shelf 2", crier.ConditionSpec{AttrsAnd: map[string]string{"shelf": "2"}}, func(i int, _ bool) bool { return i%4 == 2 }},
	{"odd", crier.ConditionSpec{TagsAnd: []string{"odd"}}, func(i int, _ bool) bool { return i%2 == 1 }},
	{"swings", crier.ConditionSpec{TagsOr: []string{"swings"}}, func(_ int, s bool) bool { return s }},
	{"swings and even", crier.ConditionSpec{TagsAnd: []string{"swings", "even"}}, func(i int, s bool) bool { return s && i%2 == 0 }},
	{"does not swing", crier.ConditionSpec{TagsNot: []string{"swings"}}, func(_ int, s bool) bool { return !s }},
}

func (m *member) canSwing() bool { return m.number%3 == 0 }

// stays tells whether its receiver is connected all the time.
func (m *member) stays() bool { return m.number%4 < 2 }

// newCrowd makes the app and its accounts, and has the receivers listen until ctx ends.
func newCrowd(ctx context.Context, c *cluster, ears *sync.WaitGroup) *crowd {
	c.t.Helper()
	w := &crowd{c: c, pushes: make(map[crier.TaskID]*push), old: make(map[crier.TaskID]bool)}
	c.keys[crowdApp] = c.createApp(crowdApp)
	c.prepare(crowdApp, "shelf")
	attrs, tags := make(map[crier.UserID]map[string]string), make(map[crier.UserID][]string)
	var users []crier.UserID
	for i := range crowdSize {
		m := &member{number: i, user: crier.UserID(fmt.Sprintf("member%02d", i)), store: client.MemoryStore()}
		w.members = append(w.members, m)
		users = append(users, m.user)
		attrs[m.user] = map[string]string{"shelf": fmt.Sprint(i % 4)}
		tags[m.user] = []string{"even"}
		if i%2 == 1 {
			tags[m.user] = []string{"odd"}
		}
	}
	w.any("import", func(cl *client.Client) error { return cl.Import(c.t.Context(), users...) })
	w.any("attributes", func(cl *client.Client) error { return cl.SetAttrs(c.t.Context(), attrs) })
	w.any("tags", func(cl *client.Client) error { return cl.AddTags(c.t.Context(), tags) })
	for _, m := range w.members {
		ears.Go(func() { w.live(ctx, m) })
	}
	return w
}

func (w *crowd) any(what string, f func(*client.Client) error) {
	w.c.t.Helper()
	w.c.anyOf(crowdApp, what, f)
}

// live is what the device of a member does: it stays connected, or comes and goes.
func (w *crowd) live(ctx context.Context, m *member) {
	for ctx.Err() == nil {
		session, leave := context.WithCancel(ctx)
		if !m.stays() {
			session, leave = context.WithTimeout(ctx, time.Second+rand.N(6*time.Second))
		}
		if err := w.listen(session, m); err != nil && session.Err() == nil {
			w.c.t.Errorf("%s: %v", m.user, err)
			leave()
			return
		}
		leave()
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(2 * time.Second)):
		}
	}
}

func (w *crowd) listen(ctx context.Context, m *member) error {
	var since time.Time
	sign := client.SecretKey(w.c.keys[crowdApp])
	return client.Listen(ctx, client.ListenConfig{
		URL: w.c.front, SDKAppID: crowdApp, UserID: m.user, Store: m.store, MaxBackoff: 2 * time.Second,
		Protocol: []client.Protocol{client.Proto, client.JSON}[m.number%2],
		UserSig: func(ctx context.Context, app crier.AppID, user crier.UserID) (string, error) {
			since = time.Now() // before every login
			return sign(ctx, app, user)
		},
		OnMessage: func(_ context.Context, msg *client.Message) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.shown = append(m.shown, show{msg.Task, msg.Seq, since})
			return nil
		},
	})
}

// load pushes and swings until ctx ends.
func (w *crowd) load(ctx context.Context, hands *sync.WaitGroup, random *rand.Rand) {
	for range pushers {
		own := rand.New(rand.NewPCG(random.Uint64(), 0))
		hands.Go(func() {
			for ctx.Err() == nil {
				kept := own.IntN(3) > 0
				w.push(audiences[own.IntN(len(audiences))], kept)
				pause(ctx, time.Duration(own.Int64N(int64(2*pushPause))))
			}
		})
	}
	own := rand.New(rand.NewPCG(random.Uint64(), 0))
	hands.Go(func() {
		for ctx.Err() == nil {
			w.swing(ctx, w.members[3*own.IntN(crowdSize/3)])
			pause(ctx, time.Duration(own.Int64N(int64(pushPause))))
		}
	})
	hands.Go(func() {
		for ctx.Err() == nil {
			w.report()
			pause(ctx, reportEvery)
		}
	})
}

// pause waits until the time is over or ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// push pushes until it is acknowledged. A try that nobody knows of and the next one are one push.
func (w *crowd) push(who *audience, kept bool) *push {
	random := w.randoms.Add(1) // drawn ones would meet in an hour of pushes, one time in fifteen: two pushes with one are one
	p := &push{who: who, kept: kept, random: random, began: time.Now()}
	ask := client.Push{Text: who.name, Condition: who.spec, Random: random, Offline: &client.OfflinePush{Desc: who.name, Ext: fmt.Sprint(random)}}
	if kept {
		ask.LifeTime = time.Hour
	}
	w.any("push", func(cl *client.Client) (err error) {
		ctx, cancel := context.WithTimeout(w.c.t.Context(), callPatience)
		defer cancel()
		p.task, err = cl.Push(ctx, ask)
		if errors.Is(err, crier.CodePushRepeated) && p.task != "" {
			return nil
		}
		return err
	})
	if p.task == "" {
		return p // the test has failed
	}
	p.accepted = time.Now()
	w.mu.Lock()
	w.pushes[p.task] = p
	w.mu.Unlock()
	if random%againEvery == 0 {
		w.pushAgain(ask, p.task)
	}
	return p
}

// pushAgain sends a push that was acknowledged once more, as a back end does that has lost the answer: it is the same one.
func (w *crowd) pushAgain(ask client.Push, task crier.TaskID) {
	w.any("push again", func(cl *client.Client) error {
		ctx, cancel := context.WithTimeout(w.c.t.Context(), callPatience)
		defer cancel()
		again, err := cl.Push(ctx, ask)
		if errors.Is(err, crier.CodePushRepeated) {
			err = nil
		}
		if err == nil && again != task {
			w.c.t.Errorf("push %s, sent once more, is %s", task, again)
		}
		return err
	})
}

// swing gives a member the tag, or takes it away.
func (w *crowd) swing(ctx context.Context, m *member) {
	m.mu.Lock()
	s := swing{on: len(m.swings) == 0 || !m.swings[len(m.swings)-1].on, began: time.Now()}
	m.swings = append(m.swings, s)
	last := &m.swings[len(m.swings)-1]
	m.mu.Unlock()
	for tries := 0; ; tries++ {
		err := w.setTag(ctx, m.user, s.on)
		m.mu.Lock()
		last.ended = time.Now()
		last.unknown = last.unknown || err != nil || tries > 0
		m.mu.Unlock()
		if err == nil || ctx.Err() != nil {
			return
		}
	}
}

func (w *crowd) setTag(ctx context.Context, user crier.UserID, on bool) error {
	some := w.c.alive()
	if len(some) == 0 {
		pause(ctx, 20*time.Millisecond)
		return errors.New("no node is alive")
	}
	cl := w.c.clientOf(crowdApp, some[rand.IntN(len(some))])
	cl.Attempts = 1 // one that tries again may be done again, after the next change
	call, cancel := context.WithTimeout(w.c.t.Context(), callPatience)
	defer cancel()
	if on {
		return cl.AddTags(call, map[crier.UserID][]string{user: {"swings"}})
	}
	return cl.RemoveTags(call, map[crier.UserID][]string{user: {"swings"}})
}

// report asks a node how far the pushes are that are not known to be done.
func (w *crowd) report() {
	var tasks []crier.TaskID
	w.mu.Lock()
	for task, p := range w.pushes {
		if p.done.IsZero() && len(tasks) < crier.MaxReportTasks {
			tasks = append(tasks, task)
		}
	}
	w.mu.Unlock()
	some := w.c.alive()
	if len(tasks) == 0 || len(some) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(w.c.t.Context(), callPatience)
	defer cancel()
	reports, err := w.c.clientOf(crowdApp, some[rand.IntN(len(some))]).Report(ctx, tasks...)
	if err != nil {
		return // the next time, or in the end
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range reports {
		if p := w.pushes[r.Task]; r.Status == crier.StatusDone && p.done.IsZero() {
			p.done, p.total = time.Now(), r.Total
		}
	}
}

// was returns what the tag may have been from one time to another.
func (m *member) was(from, to time.Time) (on, off bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	off = true // before the first
	for _, s := range m.swings {
		switch {
		case s.began.After(to):
			return on, off
		case s.unknown: // it may be done later, over others
			return true, true
		case !s.ended.IsZero() && s.ended.Before(from):
			on, off = s.on, !s.on
		default:
			on, off = on || s.on, off || !s.on
		}
	}
	return on, off
}

// matched tells whether a push must and may have matched a member.
func (m *member) matched(p *push) (must, may bool) {
	on, off := m.was(p.began, p.done)
	with, without := p.who.matches(m.number, true), p.who.matches(m.number, false)
	return (!on || with) && (!off || without), on && with || off && without
}

// check holds what was acknowledged against what every node and every receiver knows, once all is healed, and begins anew.
func (w *crowd) check() {
	t := w.c.t
	t.Helper()
	last := w.push(audiences[0], true)
	eventually(t, "every push is done, and every node says the same of it", w.reportAll)
	if t.Failed() {
		return
	}
	for _, p := range w.pushes {
		must, may := 0, 0
		for _, m := range w.members {
			a, b := m.matched(p)
			must += count(a)
			may += count(b)
		}
		if p.total < uint64(must) || p.total > uint64(may) {
			t.Errorf("%s matched %d, it must be %d to %d", p, p.total, must, may)
		}
	}
	if eventually(t, "every kept message has come to all that it matched", func() error { return w.allShown(last) }); t.Failed() {
		w.explain(last, w.without(last))
	}
	w.checkOnline()
	if t.Failed() {
		return // the rest says the same, of everybody
	}
	for _, m := range w.members {
		w.checkMember(m)
	}
	w.checkPlaces()
	w.checkPhones()
	w.begin()
}

// checkOnline pushes to who is online, and looks whether those get it who stay connected. It tries again: one on the move may miss one.
func (w *crowd) checkOnline() {
	var p *push
	eventually(w.c.t, "a push to who is online comes to all who are", func() error {
		if p == nil || time.Since(p.began) > 5*time.Second {
			p = w.push(audiences[0], false)
		}
		for _, m := range w.members {
			if !m.stays() {
				continue
			}
			m.mu.Lock()
			got := slices.ContainsFunc(m.shown, func(s show) bool { return s.task == p.task })
			m.mu.Unlock()
			if !got {
				return fmt.Errorf("%s was not shown %s", m.user, p)
			}
		}
		return nil
	})
	eventually(w.c.t, "it is done", w.reportAll)
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (p *push) String() string {
	kind := "online only"
	if p.kept {
		kind = "kept"
	}
	return fmt.Sprintf("push %s (%s, to %s, called %s, accepted %s, done %s)", p.task, kind, p.who.name, clock(p.began), clock(p.accepted), clock(p.done))
}

// reportAll asks every node for the reports of all pushes.
func (w *crowd) reportAll() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var tasks []crier.TaskID
	for task := range w.pushes {
		tasks = append(tasks, task)
	}
	for part := range slices.Chunk(tasks, crier.MaxReportTasks) {
		for _, i := range w.c.alive() {
			reports, err := w.c.clientOf(crowdApp, i).Report(w.c.t.Context(), part...)
			if err != nil {
				return err
			}
			for _, r := range reports {
				p := w.pushes[r.Task]
				if r.Status != crier.StatusDone || r.Finished != r.Total {
					return fmt.Errorf("node %d says of %s: %+v", i, p, r)
				}
				if p.done.IsZero() {
					p.done, p.total = time.Now(), r.Total
				}
				if r.Total != p.total {
					return fmt.Errorf("node %d says that %s matched %d, it was %d", i, p, r.Total, p.total)
				}
			}
		}
	}
	return nil
}

// allShown tells whether every kept message has been shown as often as it matched.
func (w *crowd) allShown(last *push) error {
	shown := make(map[crier.TaskID]uint64)
	for _, m := range w.members {
		m.mu.Lock()
		for _, s := range m.shown {
			shown[s.task]++
		}
		m.mu.Unlock()
	}
	var missing []string
	for task, p := range w.pushes {
		if p.kept && shown[task] < p.total {
			missing = append(missing, fmt.Sprintf("%s: %d of %d", p, shown[task], p.total))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	silent := w.without(last)
	return fmt.Errorf("%d pushes lack receivers; without the last one are %v\n%s", len(missing), silent, strings.Join(missing[:min(10, len(missing))], "\n"))
}

// without returns the members that were not shown a push.
func (w *crowd) without(p *push) (all []crier.UserID) {
	for _, m := range w.members {
		m.mu.Lock()
		if !slices.ContainsFunc(m.shown, func(s show) bool { return s.task == p.task }) {
			all = append(all, m.user)
		}
		m.mu.Unlock()
	}
	return all
}

// explain logs what every node says of a push for some.
func (w *crowd) explain(p *push, users []crier.UserID) {
	for _, user := range users {
		for _, i := range w.c.alive() {
			out, err := w.c.nodes[i].ask("explain", string(p.task), string(user))
			w.c.t.Logf("node %d of %s: %v\n%s", i, user, err, out)
		}
	}
}

// checkMember checks what one member was shown: each push once, in order, nothing that was not for it, and all that was.
func (w *crowd) checkMember(m *member) {
	t := w.c.t
	m.mu.Lock()
	shown := slices.Clone(m.shown)
	m.mu.Unlock()
	seen := make(map[crier.TaskID]bool)
	for _, s := range shown {
		p := w.pushes[s.task]
		switch {
		case seen[s.task] || w.old[s.task]:
			t.Errorf("%s was shown task %s twice", m.user, s.task)
		case p == nil:
			t.Errorf("%s was shown task %s, which nobody has pushed", m.user, s.task)
		case !p.kept && s.since.After(p.done):
			t.Errorf("%s was shown %s, which is for who was online, and came at %s", m.user, p, clock(s.since))
		}
		if s.seq <= m.last {
			t.Errorf("%s was shown task %s, the app's %d, after %d", m.user, s.task, s.seq, m.last)
		}
		seen[s.task], m.last = true, s.seq
	}
	for _, p := range w.pushes {
		must, may := m.matched(p)
		if seen[p.task] && !may {
			t.Errorf("%s was shown %s, which is not for it", m.user, p)
		}
		if !seen[p.task] && must && p.kept {
			t.Errorf("%s was not shown %s", m.user, p)
		}
	}
}

// checkPlaces checks that a push has one place in the app's sequence, after those that were accepted before it was called.
func (w *crowd) checkPlaces() {
	places := make(map[crier.TaskID]uint64)
	for _, m := range w.members { // to whom nothing comes any more
		for _, s := range m.shown {
			if seq, ok := places[s.task]; ok && seq != s.seq {
				w.c.t.Errorf("task %s has place %d for one and %d for another", s.task, seq, s.seq)
			}
			places[s.task] = s.seq
		}
	}
	all := slices.SortedFunc(maps.Values(w.pushes), func(a, b *push) int { return a.began.Compare(b.began) })
	for i, b := range all {
		for _, a := range all[:i] {
			if a.accepted.Before(b.began) && places[b.task] > 0 && places[a.task] > places[b.task] {
				w.c.t.Errorf("%s has place %d, before it %s with %d", b, places[b.task], a, places[a.task])
			}
		}
	}
}

// begin forgets the round. Nothing is under way any more, so that the tag is known again.
func (w *crowd) begin() {
	w.c.note("%d pushes were known, right and shown", len(w.pushes))
	for task := range w.pushes {
		w.old[task] = true
	}
	clear(w.pushes)
	for _, m := range w.members {
		if m.canSwing() {
			w.any("take the tag away", func(cl *client.Client) error {
				return cl.RemoveTags(w.c.t.Context(), map[crier.UserID][]string{m.user: {"swings"}})
			})
		}
		m.mu.Lock()
		m.swings, m.shown = nil, nil
		m.mu.Unlock()
	}
}
