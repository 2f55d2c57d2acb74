// Package outage plays what happens when a node of a cluster dies in the middle of a push, with three nodes as processes of
// this machine and receivers on each, and judges whether everybody still got everything once.
package outage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/demo"
	"github.com/crier-im/crier/internal/localcluster"
)

const (
	nodes   = 3
	perNode = 40 // people who are connected to each node
	away    = 30 // people who are not there
	appID   = crier.AppID(1400000001)
	admin   = crier.UserID("administrator")
	// within is how long the story waits for what should come.
	within = time.Minute
)

// Config says how the story is played.
type Config struct {
	Binary string // of crier
	Dir    string // for the data of the nodes, and their logs
	Token  string // the operator's
	// Operator returns the operator's API of a node by its URL.
	Operator func(url string) demo.Operator
	Out      io.Writer
	Color    bool
}

// person is one receiver.
type person struct {
	user  crier.UserID
	home  int // the node that it is connected to, from 0; -1: away
	stop  context.CancelFunc
	ended chan struct{}

	mu    sync.Mutex
	got   map[crier.TaskID][]time.Time // when the app showed it
	order []uint64
}

// push is one message to everybody.
type push struct {
	title string
	task  crier.TaskID
	sent  time.Time
	taken time.Duration // until it was accepted
}

type story struct {
	cfg     Config
	key     string
	cluster *localcluster.Cluster
	fronts  []*front // one for who prefers each node
	people  []*person
	pushes  []*push
	killed  time.Time
	before  int // who had the first push when the node died
}

// Run plays the story and prints it, ending in a table. It returns demo.ErrDiffers if somebody did not get a push, or got it twice, or
// out of order.
func Run(ctx context.Context, cfg Config) (err error) {
	s := &story{cfg: cfg}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, act := range []func(context.Context) error{s.begin, s.gather, s.christmas, s.meanwhile, s.settle, s.comeBack, s.restart} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return s.judge(ctx)
}

func (s *story) close() error {
	for _, p := range s.people {
		p.leave()
	}
	for _, f := range s.fronts {
		f.close()
	}
	if s.cluster == nil {
		return nil
	}
	return s.cluster.Close()
}

// say prints a line of the story; head makes it stand out.
func (s *story) say(head bool, format string, args ...any) {
	demo.Say(s.cfg.Out, s.cfg.Color, head, format, args...)
}

// begin starts the nodes and makes the app.
func (s *story) begin(ctx context.Context) (err error) {
	s.say(true, "three nodes start on this machine, as one cluster")
	s.cluster, err = localcluster.Start(ctx, localcluster.Config{Binary: s.cfg.Binary, Dir: s.cfg.Dir, Nodes: nodes, Token: s.cfg.Token})
	if err != nil {
		return err
	}
	for i, n := range s.cluster.Nodes {
		s.say(false, "node %d: %s, process %d", n.Number, n.URL, n.PID())
		urls := make([]string, nodes)
		for j := range urls {
			urls[j] = s.cluster.Nodes[(i+j)%nodes].URL
		}
		f, err := newFront(urls...)
		if err != nil {
			return err
		}
		s.fronts = append(s.fronts, f)
	}
	s.say(false, "what they print: %s", filepath.Join(s.cfg.Dir, "node-*.log"))
	app := map[string]any{"id": appID, "limits": map[string]any{"push_interval": 0}}
	var made struct{ Key string }
	if err := s.cfg.Operator(s.cluster.Nodes[0].URL)(ctx, http.MethodPost, "/v1/apps", app, &made); err != nil {
		return fmt.Errorf("make the app: %w", err)
	}
	s.key = made.Key
	for _, n := range s.cluster.Nodes {
		if err := s.waitForApp(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// waitForApp waits until a node knows the app: its replica is some milliseconds behind.
func (s *story) waitForApp(ctx context.Context, n *localcluster.Node) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := s.cfg.Operator(n.URL)(ctx, http.MethodGet, "/v1/apps/"+appID.String(), nil, new(struct{}))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %d does not know the app: %w", n.Number, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// client returns a client whose calls go to a node, and to another where that one is gone.
func (s *story) client(node int) (*client.Client, error) {
	return client.New(s.fronts[node].url(), appID, admin, client.SecretKey(s.key))
}

// gather makes the accounts and connects who is there.
func (s *story) gather(ctx context.Context) error {
	run := fmt.Sprintf("%04x", rand.N(1<<16))
	var users []crier.UserID
	for i := range nodes*perNode + away {
		home := i / perNode
		if i >= nodes*perNode {
			home = -1
		}
		p := &person{user: crier.UserID(fmt.Sprintf("person-%s-%03d", run, i)), home: home, got: make(map[crier.TaskID][]time.Time)}
		s.people, users = append(s.people, p), append(users, p.user)
	}
	c, err := s.client(0)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(users, 100) { // as many as a call takes
		if err := c.Import(ctx, some...); err != nil {
			return fmt.Errorf("import the accounts: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for _, p := range s.people {
		if p.home < 0 {
			continue
		}
		if err := s.connect(ctx, p, p.home); err != nil {
			return fmt.Errorf("connect %s: %w", p.user, err)
		}
	}
	s.say(true, "%d people: %d are connected to each node, %d are away", len(s.people), perNode, away)
	s.say(false, "A load balancer stands before the nodes: who loses a connection is led to a node that lives.")
	return nil
}

// connect brings a person online through the front of a node, and returns when the connection stands.
func (s *story) connect(ctx context.Context, p *person, node int) error {
	up := make(chan struct{})
	var once sync.Once
	listening, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.stop, p.ended = cancel, make(chan struct{})
	failed := make(chan error, 1)
	go func() { // ends with leave
		defer close(p.ended)
		failed <- client.Listen(listening, client.ListenConfig{
			URL: s.fronts[node].url(), SDKAppID: appID, UserID: p.user, UserSig: client.SecretKey(s.key), OnMessage: p.show,
			OnState: func(st client.State) {
				if st.Connected {
					once.Do(func() { close(up) })
				}
			},
		})
	}()
	select {
	case <-up:
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// show is the app: it notes what its user would see.
func (p *person) show(_ context.Context, m *client.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got[m.Task] = append(p.got[m.Task], time.Now())
	p.order = append(p.order, m.Seq)
	return nil
}

func (p *person) has(task crier.TaskID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.got[task]) > 0
}

func (p *person) leave() {
	if p.stop != nil {
		p.stop()
		<-p.ended
		p.stop = nil
	}
}

// push sends one message to everybody through a node.
func (s *story) push(ctx context.Context, node int, title string) (*push, error) {
	c, err := s.client(node)
	if err != nil {
		return nil, err
	}
	p := &push{title: title, sent: time.Now()}
	p.task, err = c.Push(ctx, client.Push{Text: title, LifeTime: time.Hour})
	if err != nil {
		return nil, fmt.Errorf("push %q: %w", title, err)
	}
	p.taken = time.Since(p.sent)
	s.pushes = append(s.pushes, p)
	return p, nil
}

// christmas is the push in whose middle a node dies: when the first have it, and most have not.
func (s *story) christmas(ctx context.Context) error {
	victim := s.cluster.Nodes[0]
	s.say(true, "the Christmas push, to everybody, by a call to node 2; node 1 dies in the middle of it")
	p, err := s.push(ctx, 1, "Merry Christmas!")
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(within); s.have(p.task) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("nobody has the push after %v", within)
		}
	}
	pid := victim.PID()
	if err := victim.Kill(); err != nil {
		return fmt.Errorf("kill node 1: %w", err)
	}
	s.killed, s.before = time.Now(), s.have(p.task)
	s.say(false, "accepted after %v, as %s", p.taken.Round(time.Millisecond), p.task)
	s.say(false, "kill -9 %d: node 1 is gone, %v after the call; %d of %d people who are connected have the push",
		pid, s.killed.Sub(p.sent).Round(time.Millisecond), s.before, nodes*perNode)
	return nil
}

// have counts who has a push.
func (s *story) have(task crier.TaskID) (n int) {
	for _, p := range s.people {
		if p.has(task) {
			n++
		}
	}
	return n
}

// meanwhile pushes while the others take over what the dead node led.
func (s *story) meanwhile(ctx context.Context) error {
	p, err := s.push(ctx, 2, "The shop is open all night.")
	if err != nil {
		return err
	}
	s.say(false, "another push at once, by a call to node 3: accepted after %v", p.taken.Round(time.Millisecond))
	return nil
}

// settle waits until everybody who is connected has both pushes.
func (s *story) settle(ctx context.Context) error {
	if err := s.wait(ctx, func(p *person) bool { return p.home < 0 }); err != nil {
		return err
	}
	s.say(true, "the two nodes that are left have taken over")
	for _, p := range s.pushes {
		s.say(false, "%q: the last of those who are connected had it %v after node 1 had died", p.title, s.last(p.task).Sub(s.killed).Round(time.Millisecond))
	}
	return nil
}

// wait waits until everybody but who is passed over has every push. It is no error that somebody has not: the table will say so.
func (s *story) wait(ctx context.Context, over func(*person) bool) error {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		missing := false
		for _, p := range s.people {
			for _, push := range s.pushes {
				missing = missing || !over(p) && !p.has(push.task)
			}
		}
		if !missing {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// last is when the last person got a push.
func (s *story) last(task crier.TaskID) (last time.Time) {
	for _, p := range s.people {
		p.mu.Lock()
		for _, at := range p.got[task] {
			if at.After(last) {
				last = at
			}
		}
		p.mu.Unlock()
	}
	return last
}

// comeBack connects who was away, to the nodes that are left.
func (s *story) comeBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for i, p := range s.people {
		if p.home >= 0 {
			continue
		}
		if err := s.connect(ctx, p, i%nodes); err != nil {
			return fmt.Errorf("connect %s: %w", p.user, err)
		}
	}
	if err := s.wait(ctx, func(*person) bool { return false }); err != nil {
		return err
	}
	s.say(true, "the %d people who were away come back, and find both in their mailboxes", away)
	return nil
}

// restart starts the dead node on its own disk again, and pushes once more.
func (s *story) restart(ctx context.Context) error {
	began := time.Now()
	victim := s.cluster.Nodes[0]
	if err := victim.Start(); err != nil {
		return err
	}
	if err := victim.WaitReady(ctx); err != nil {
		return err
	}
	s.say(true, "node 1 is started again, process %d; it serves %v later", victim.PID(), time.Since(began).Round(10*time.Millisecond))
	p, err := s.push(ctx, 0, "All three are back.")
	if err != nil {
		return err
	}
	s.say(false, "a push by a call to node 1: accepted after %v", p.taken.Round(time.Millisecond))
	return s.wait(ctx, func(*person) bool { return false })
}

// judge waits a moment for what may come twice, and prints who got what.
func (s *story) judge(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
	}
	s.say(true, "who got what")
	w := tabwriter.NewWriter(s.cfg.Out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "  WHO\tPEOPLE\tGOT ALL THREE ONCE\tMISSED ONE\tSAW ONE TWICE\tOUT OF ORDER")
	differs := false
	for home := range nodes + 1 {
		who := fmt.Sprintf("connected to node %d", home+1)
		switch home {
		case 0:
			who += ", which died"
		case nodes:
			who, home = "away meanwhile", -1
		}
		var t tally
		for _, p := range s.people {
			if p.home == home {
				t.add(p, s.pushes)
			}
		}
		differs = differs || t.right != t.people
		fmt.Fprintf(w, "  %s\t%d\t%d\t%d\t%d\t%d\n", who, t.people, t.right, t.missed, t.twice, t.disordered)
	}
	_ = w.Flush() // as good as the lines before it
	if differs {
		return demo.ErrDiffers
	}
	s.say(true, "nobody missed a push, nobody saw one twice, and all came in order")
	return nil
}

// tally counts how people fared.
type tally struct{ people, right, missed, twice, disordered int }

func (t *tally) add(p *person, pushes []*push) {
	p.mu.Lock()
	defer p.mu.Unlock()
	missed, twice, disordered := false, false, false
	for _, push := range pushes {
		n := len(p.got[push.task])
		missed, twice = missed || n == 0, twice || n > 1
	}
	for i := 1; i < len(p.order); i++ {
		disordered = disordered || p.order[i] < p.order[i-1]
	}
	t.people++
	for n, is := range map[*int]bool{&t.missed: missed, &t.twice: twice, &t.disordered: disordered, &t.right: !missed && !twice && !disordered} {
		if is {
			*n++
		}
	}
}
