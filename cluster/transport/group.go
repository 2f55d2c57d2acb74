package transport

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crier-im/crier"
)

// appendBytesAtOnce is where an append is cut into several: raft bounds the number of entries and not their bytes, and
// heartbeats of other groups stand behind what is on the wire.
const appendBytesAtOnce = 1 << 20

// groupQueue is how many requests of a group may wait for raft to take them. A leader has at most a handful under way.
const groupQueue = 16

// group is the raft.Transport of one group.
type group struct {
	mux      *Mux
	id       crier.PartitionID
	consumer chan raft.RPC
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	term     atomic.Uint64 // the latest of the appends that have come

	mu        sync.Mutex
	beat      func(raft.RPC)
	urgent    int           // callers of Hurry
	hurry     chan struct{} // closed by the first of them
	confirmed map[string]confirmation
}

// confirmation is the last heartbeat that a peer has answered with success.
type confirmation struct {
	sent, returned time.Time
	term           uint64
}

var (
	_ raft.Transport   = (*group)(nil)
	_ raft.WithPreVote = (*group)(nil)
	_ raft.WithClose   = (*group)(nil)
)

func newGroup(m *Mux, p crier.PartitionID) *group {
	g := &group{mux: m, id: p, consumer: make(chan raft.RPC, groupQueue), hurry: make(chan struct{}), confirmed: make(map[string]confirmation)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// Consumer is raft.Transport's.
func (g *group) Consumer() <-chan raft.RPC { return g.consumer }

// LocalAddr is raft.Transport's: the node's id.
func (g *group) LocalAddr() raft.ServerAddress { return raft.ServerAddress(g.mux.cfg.NodeID) }

// EncodePeer is raft.Transport's.
func (g *group) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer is raft.Transport's.
func (g *group) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler is raft.Transport's.
func (g *group) SetHeartbeatHandler(handler func(raft.RPC)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.beat = handler
}

func (g *group) handler() func(raft.RPC) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.beat
}

// firstOf reports whether no append of the term, or a later one, has come before.
func (g *group) firstOf(term uint64) bool {
	for last := g.term.Load(); term > last; last = g.term.Load() {
		if g.term.CompareAndSwap(last, term) {
			return true
		}
	}
	return false
}

// offer queues a request for raft. It returns false when the queue is full.
func (g *group) offer(rpc raft.RPC) bool {
	select {
	case g.consumer <- rpc:
		return true
	default:
		return false
	}
}

// Campaign has the group's raft on this node stand for election at once, as a leader would that hands over. It is for when there is nobody whose
// heartbeats are worth waiting for: this node is the only voter, or the leader's process has ended.
func (g *group) Campaign() {
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(g.mux.cfg.NodeID), Addr: []byte(g.mux.cfg.NodeID)}
	g.offer(raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: header}, RespChan: make(chan raft.RPCResponse, 1)})
}

// Close is raft.WithClose's: it ends the calls that wait, and tells other nodes that the group is not
// open here. A second Close does nothing.
func (g *group) Close() error {
	g.mux.drop(g)
	g.cancel()
	return nil
}

// RequestVote is raft.Transport's. It fails at once while the link is down.
func (g *group) RequestVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return g.ask(target, kindVote, args, resp)
}

// RequestPreVote is raft.WithPreVote's. It fails at once while the link is down.
func (g *group) RequestPreVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return g.ask(target, kindPreVote, args, resp)
}

// TimeoutNow is raft.Transport's. It fails at once while the link is down: commands are refused while it waits.
func (g *group) TimeoutNow(_ raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return g.ask(target, kindTimeoutNow, args, resp)
}

// ask makes a call that is of use now or never.
func (g *group) ask(target raft.ServerAddress, k kind, request, into any) error {
	l, err := g.mux.link(string(target))
	if err != nil {
		return err
	}
	o, err := l.now(g.ctx.Done())
	if err != nil {
		return err
	}
	c, err := o.start(k, g.id, request, into, g.ctx.Done())
	if err != nil {
		return err
	}
	return o.wait(c, time.Now().Add(g.mux.cfg.PeerTimeout), g.ctx.Done())
}

// AppendEntries is raft.Transport's. A heartbeat fails at once while the link is down. Anything else waits for the link, and for the
// group to be open there, up to AppendTimeout, and is sent again when its answer was lost, which an append allows.
func (g *group) AppendEntries(_ raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if isHeartbeat(args) {
		return g.heartbeat(target, args, resp)
	}
	deadline := time.Now().Add(g.mux.cfg.AppendTimeout)
	for _, part := range cut(args) {
		if err := g.appendUntil(target, part, resp, deadline); err != nil || !resp.Success {
			return err
		}
	}
	return nil
}

// appendUntil makes one append, again while that is worth it, until the deadline.
func (g *group) appendUntil(target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, deadline time.Time) error {
	for pause := firstPause; ; pause = nextPause(pause) {
		o, c, err := g.startAppend(target, args, resp, deadline, g.ctx.Done())
		if err == nil {
			err = o.wait(c, deadline, g.ctx.Done())
		}
		if !retryable(err) || time.Now().After(deadline) {
			return err
		}
		pause = pauseAfter(err, pause)
		if err := g.sleep(pause, g.ctx.Done()); err != nil {
			return err
		}
	}
}

// startAppend sends an append as soon as there is a link.
func (g *group) startAppend(target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, deadline time.Time, cancel <-chan struct{}) (*outbound, *call, error) {
	l, err := g.mux.link(string(target))
	if err != nil {
		return nil, nil, err
	}
	o, err := l.wait(deadline, cancel)
	if err != nil {
		return nil, nil, err
	}
	k := kindAppend
	if len(args.Entries) == 0 {
		k |= lazy // it only tells of the commit index
	}
	c, err := o.start(k, g.id, args, resp, cancel)
	return o, c, err
}

// pauseAfter is how long to wait after an error before an append is tried again. A link has pauses of its own.
func pauseAfter(err error, pause time.Duration) time.Duration {
	if errors.Is(err, ErrLinkDown) {
		return firstPause
	}
	return pause
}

func nextPause(d time.Duration) time.Duration { return min(2*d, lastPause/2) }

// sleep pauses for about d, unless cancel is closed.
func (g *group) sleep(d time.Duration, cancel <-chan struct{}) error {
	select {
	case <-cancel:
		return ErrClosed
	case <-time.After(d/2 + rand.N(d/2)):
		return nil
	}
}

// heartbeat goes with those of other groups once the peer has confirmed one in this term, and at once where somebody waits for it. Raft's pause between
// two, a tenth or two of HeartbeatTimeout, begins when it returns: so there are half as many as raft would send.
func (g *group) heartbeat(target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if taken, err := g.beatWith(target, args.Term); taken || err != nil {
		*resp = raft.AppendEntriesResponse{RPCHeader: raft.RPCHeader{ProtocolVersion: args.ProtocolVersion, ID: []byte(target), Addr: []byte(target)}, Term: args.Term, Success: taken}
		return err
	}
	sent := time.Now()
	if err := g.ask(target, kindHeartbeat, args, resp); err != nil {
		return err
	}
	if resp.Success {
		g.confirm(target, sent, args.Term)
	}
	return nil
}

func (g *group) confirm(target raft.ServerAddress, sent time.Time, term uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.confirmed[string(target)] = confirmation{sent, time.Now(), term}
}

// Hurry has heartbeats of the group sent at once, those that wait for others too, until the function that it returns is called.
func (g *group) Hurry() (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.urgent++; g.urgent == 1 {
		close(g.hurry)
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.urgent--; g.urgent == 0 {
			g.hurry = make(chan struct{})
		}
	}
}

// Confirmed returns how many of the peers have answered a heartbeat of the term with success that was sent at since or later: until then they knew
// of no higher one.
func (g *group) Confirmed(since time.Time, term uint64, peers []raft.ServerAddress) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, p := range peers {
		if c, ok := g.confirmed[string(p)]; ok && c.term == term && !c.sent.Before(since) {
			n++
		}
	}
	return n
}

// isHeartbeat tells raft's heartbeats from its other appends: they have nothing but the term and the leader.
func isHeartbeat(a *raft.AppendEntriesRequest) bool {
	return a.Term != 0 && len(a.Addr) > 0 && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

// cut makes several appends of one with too many bytes or entries for a frame. Each follows on the one before, and only the last tells of
// a commit beyond its own entries: what stands behind them in the follower's log may be of another term.
func cut(args *raft.AppendEntriesRequest) []*raft.AppendEntriesRequest {
	var parts []*raft.AppendEntriesRequest
	rest := *args
	for {
		n, size := 0, 0
		for _, e := range rest.Entries[:min(len(rest.Entries), maxEntries)] {
			if size += entrySize(e); size > appendBytesAtOnce && n > 0 {
				break
			}
			n++
		}
		part := rest
		part.Entries = rest.Entries[:n]
		parts = append(parts, &part)
		if n == len(rest.Entries) {
			return parts
		}
		last := part.Entries[n-1]
		part.LeaderCommitIndex = min(part.LeaderCommitIndex, last.Index)
		rest.Entries, rest.PrevLogEntry, rest.PrevLogTerm = rest.Entries[n:], last.Index, last.Term
	}
}
