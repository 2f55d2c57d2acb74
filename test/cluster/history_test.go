package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

const (
	// objects are the accounts of a round, workers those who call each node. There are few accounts, so that calls meet. Each round has accounts
	// of its own, so that what can't be decided in one does not burden the next.
	objects, workers = 4, 4
	// questions are asked of a node that is stopped, before it goes on.
	questions = 16
	// never is the end of a call of which nobody knows whether it was done.
	never = 1 << 62
	// callPatience is how long a worker waits for a node that hangs. What it has asked for may be done much later.
	callPatience = 8 * time.Second
	// decideWithin bounds how long the search for an order of the calls may take, an object.
	decideWithin = time.Minute
)

// call is what was asked of one account: a value or a tag is set, it is imported or deleted, or one of these is read. It is the input of
// porcupine's model.
type call struct {
	object string // account, and what of it
	write  bool
	value  string // to be set; for tags +a or -a, for existence + or -
}

// What a deletion was told; empty: nobody knows.
const deleted, notThere = "deleted", "not there"

// registers is the model: an attribute has the last value that was set, an account has those tags that were added and not removed, and is there from
// its import to its deletion. The state is the value, the tags in order, or whether the account is there.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		of := make(map[string][]porcupine.Operation)
		for _, op := range history {
			object := op.Input.(call).object
			of[object] = append(of[object], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range of {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		c := input.(call)
		switch {
		case !c.write:
			return state == output, state
		case strings.HasSuffix(c.object, "/tags"):
			tags := slices.DeleteFunc(strings.Split(state.(string), ","), func(t string) bool { return t == "" || t == c.value[1:] })
			if c.value[0] == '+' {
				tags = append(tags, c.value[1:])
			}
			slices.Sort(tags)
			return true, strings.Join(tags, ",")
		case c.value == "-":
			return output == "" || (output == deleted) == (state == "+"), ""
		}
		return true, c.value
	},
	DescribeOperation: func(input, output any) string {
		c := input.(call)
		if c.write {
			return fmt.Sprintf("%s := %s %s", c.object, c.value, output)
		}
		return fmt.Sprintf("%s = %q", c.object, output)
	},
}

// history is what the workers of a round have seen. Safe for concurrent use.
type history struct {
	round int
	users []crier.UserID
	began time.Time
	mu    sync.Mutex
	all   []porcupine.Operation
	open  int         // writes of which nobody knows whether they were done
	lives map[int]int // of each worker's account that comes and goes: the number of the present one
	slow  time.Duration
}

func newHistory(round int) *history {
	h := &history{round: round, began: time.Now(), lives: make(map[int]int)}
	for i := range objects {
		h.users = append(h.users, crier.UserID(fmt.Sprintf("r%d-%d", round, i)))
	}
	return h
}

// add notes a call that has come back. A read that failed tells nothing; a write that failed may be done at any time after, unless the answer
// says that it was refused.
func (h *history) add(worker int, c call, began time.Time, output string, err error) error {
	took := time.Since(began)
	op := porcupine.Operation{ClientId: worker, Input: c, Output: output, Call: began.Sub(h.began).Nanoseconds(), Return: time.Since(h.began).Nanoseconds()}
	var answered *crier.Error
	coded := errors.As(err, &answered) && answered.Code != 0
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.slow = max(h.slow, took)
	case coded && !errors.Is(err, crier.CodeTimeout) && !errors.Is(err, crier.CodeInternal):
		return err
	case !c.write, errors.Is(err, syscall.ECONNREFUSED): // it has reached nobody
		return nil
	default:
		h.open++
		op.Return, op.Output = never, ""
		if strings.HasSuffix(c.object, "/exists") {
			h.lives[worker]++ // several that may be done at any time, or never, are more than can be put in order
		}
	}
	h.all = append(h.all, op)
	return nil
}

// relevant leaves out writes that nobody knows of and nobody has read: without them the search has less to try, and a value
// that was never read explains nothing.
func (h *history) relevant() []porcupine.Operation {
	read := make(map[string]bool)
	for _, op := range h.all {
		if c := op.Input.(call); !c.write {
			read[c.object+op.Output.(string)] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(h.all), func(op porcupine.Operation) bool {
		c := op.Input.(call)
		return op.Return == never && strings.HasSuffix(c.object, "/count") && !read[c.object+c.value]
	})
}

// work calls one node until ctx ends.
func (c *cluster) work(ctx context.Context, h *history, worker int, random *rand.Rand) {
	cl := c.client(worker % len(c.nodes))
	cl.Attempts = 1 // one that tries again does what is written twice
	for n := 0; ctx.Err() == nil; n++ {
		user := h.users[random.IntN(objects)]
		op := call{object: string(user) + "/count", write: random.IntN(2) == 0, value: fmt.Sprintf("%d-%d", worker, n)}
		switch random.IntN(3) {
		case 0:
			op.object, op.value = string(user)+"/tags", []string{"+a", "-a", "+b", "-b"}[random.IntN(4)]
		case 1:
			user = h.comesAndGoes(worker)
			op.object, op.value = string(user)+"/exists", []string{"+", "-"}[random.IntN(2)]
		}
		if err := c.do(h, cl, worker, user, op); err != nil {
			c.t.Errorf("worker %d: %v: %v", worker, op, err)
			return
		}
		if !c.nodes[worker%len(c.nodes)].alive.Load() {
			time.Sleep(20 * time.Millisecond) // nobody may be there
		}
	}
}

// comesAndGoes is an account that only one worker imports and deletes: a deletion that is done twice is told that the account is not there,
// which nobody else's deletion can explain. It is another one after a call of which nobody knows whether it was done.
func (h *history) comesAndGoes(worker int) crier.UserID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.life(worker, h.lives[worker])
}

func (h *history) life(worker, number int) crier.UserID {
	return crier.UserID(fmt.Sprintf("r%d-w%d-%d", h.round, worker, number))
}

// everyLife returns all accounts that have come and gone.
func (h *history) everyLife(workers int) (all []crier.UserID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range workers {
		for number := range h.lives[w] + 1 {
			all = append(all, h.life(w, number))
		}
	}
	return all
}

// do makes one call and notes what came of it.
func (c *cluster) do(h *history, cl *client.Client, worker int, user crier.UserID, op call) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), callPatience)
	defer cancel()
	tags, exists := strings.HasSuffix(op.object, "/tags"), strings.HasSuffix(op.object, "/exists")
	var output string
	var err error
	began := time.Now()
	switch {
	case op.write && tags && op.value[0] == '+':
		err = cl.AddTags(ctx, map[crier.UserID][]string{user: {op.value[1:]}})
	case op.write && tags:
		err = cl.RemoveTags(ctx, map[crier.UserID][]string{user: {op.value[1:]}})
	case op.write && exists && op.value == "+":
		err = cl.Import(ctx, user)
	case op.write && exists:
		output = deleted
		var failed map[crier.UserID]error
		if failed, err = cl.Delete(ctx, user); err == nil {
			err = failed[user]
		}
		if errors.Is(err, crier.CodeAccountMissing) || errors.Is(err, crier.CodeUnknownAccount) { // by a look before, or when it was to be done
			output, err = notThere, nil
		}
	case exists:
		var all map[crier.UserID]bool
		if all, err = cl.Exist(ctx, user); all[user] {
			output = "+"
		}
	case op.write:
		err = cl.SetAttrs(ctx, map[crier.UserID]map[string]string{user: {"count": op.value}})
	case tags:
		var all map[crier.UserID][]string
		all, err = cl.Tags(ctx, user)
		got := slices.Clone(all[user])
		slices.Sort(got)
		output = strings.Join(got, ",")
	default:
		var all map[crier.UserID]map[string]string
		all, err = cl.Attrs(ctx, user)
		output = all[user]["count"]
	}
	err = h.add(worker, op, began, output, err)
	if err != nil || ctx.Err() != nil {
		return err
	}
	return nil
}

// changeAccounts begins to change and read accounts through all nodes, until ctx ends.
func (c *cluster) changeAccounts(ctx context.Context, h *history, hands *sync.WaitGroup, random *rand.Rand) {
	c.any("import", func(cl *client.Client) error { return cl.Import(c.t.Context(), h.users...) })
	for w := range len(c.nodes) * workers {
		own := rand.New(rand.NewPCG(random.Uint64(), uint64(w)))
		hands.Go(func() { c.work(ctx, h, w, own) })
	}
}

// ask puts questions to a node that is stopped or cut off, before it goes on: what it answers must not be what was.
func (c *cluster) ask(h *history, hands *sync.WaitGroup, node int) {
	for i := range questions {
		user := h.users[i%objects]
		hands.Go(func() {
			if err := c.do(h, c.client(node), len(c.nodes)*workers+i, user, call{object: string(user) + "/count"}); err != nil {
				c.t.Error(err)
			}
		})
	}
	time.Sleep(100 * time.Millisecond) // until they are in its socket
}

// readAll reads through each node what is there in the end.
func (c *cluster) readAll(h *history) {
	for i, n := range c.nodes {
		if !n.alive.Load() {
			continue
		}
		cl := c.client(i)
		read := func(user crier.UserID, what string) {
			if err := c.do(h, cl, i, user, call{object: string(user) + what}); err != nil {
				c.t.Error(err)
			}
		}
		for _, user := range h.users {
			read(user, "/count")
			read(user, "/tags")
		}
		for _, user := range h.everyLife(len(c.nodes) * workers) {
			read(user, "/exists")
		}
	}
}

// judge holds a history against the model.
func (c *cluster) judge(h *history) {
	c.t.Helper()
	decided, all := 0, 0
	for _, part := range registers.Partition(h.relevant()) {
		all++
		result := porcupine.CheckOperationsTimeout(registers, part, decideWithin)
		switch result {
		case porcupine.Ok:
			decided++
			continue
		case porcupine.Unknown: // too many calls whose outcome nobody knows
			c.t.Logf("%s: %d calls can't be put in order within %v", part[0].Input.(call).object, len(part), decideWithin)
			continue
		}
		decided++
		slices.SortFunc(part, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
		var lines strings.Builder
		for _, op := range part {
			fmt.Fprintf(&lines, "%10.4f..%-10.4f worker %-2d %s\n", float64(op.Call)/1e9, float64(min(op.Return, 1<<40))/1e9, op.ClientId, registers.DescribeOperation(op.Input, op.Output))
		}
		c.t.Errorf("%s: no order of these calls explains what was read:\n%s", part[0].Input.(call).object, lines.String())
	}
	if decided < all*9/10 {
		c.t.Errorf("only %d histories of %d could be decided", decided, all)
	}
	c.t.Logf("%d calls, %d of them writes with an unknown outcome; the slowest that succeeded took %v", len(h.all), h.open, h.slow.Round(time.Millisecond))
}
