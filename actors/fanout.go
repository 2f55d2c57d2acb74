package actors

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/crier-im/crier"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
)

const (
	// fanoutName is the actor of every node that takes what is meant for several of its sessions.
	fanoutName = "fanout"
	// fanoutWait is how long a packet waits for its answer before it is sent again, and fanoutTries how often it is sent: the node may hang, or the
	// connection be lost and with it the packet or the answer. Sessions take what comes twice once. Then the sessions are to be closed, and closeTries is how often
	// that is sent: until clients have given the connections up by themselves, after two and a half heartbeats.
	fanoutWait  = time.Second
	fanoutTries = 60
	closeTries  = 900
	// fanoutBytes is the size from which a packet takes no more messages: protoactor's link has a bound for all that it carries at a time.
	fanoutBytes = 1 << 20
	// fanoutMost bounds the messages that wait for one node while others, as many at most, are under way. A session that one more is meant for is
	// closed as slow.
	fanoutMost = 100_000
)

// fanout is what a node gets for its sessions in one packet. What many of them get is in it once.
type fanout struct {
	bodies  [][]byte // messages, by Codec
	letters []letter
}

// fanoutTaken is the answer: the sessions in it that are not there any more.
type fanoutTaken struct{ missing []string }

// sessionMissing tells a user actor, here, that a session is not there, though nobody has told of its end.
type sessionMissing struct{ session *actor.PID }

// letter says that a session, an actor of the node, gets a message: its place in fanout.bodies.
type letter struct {
	session string
	body    int
}

// Fanout brings what user actors send to sessions. What goes to sessions of another node gathers while the last packet to that node is under way, as
// in Nagle's algorithm: a message that comes alone goes at once, and of a push to many the body crosses a few times and not once a session. Safe for concurrent use.
type Fanout struct {
	metrics *Metrics
	log     *slog.Logger
	to      string        // the actor that takes packets
	wait    time.Duration // for its answer

	mu      sync.Mutex
	nodes   map[string]*outgoing // with something to send, by the address of their actors
	stop    chan struct{}        // closed by Close
	closed  bool
	sending sync.WaitGroup
}

// outgoing is what waits for one node.
type outgoing struct {
	waiting []addressed         // in order
	slow    map[string]struct{} // sessions that are closed, and get nothing more of this packet
}

// addressed is a message on its way to a session.
type addressed struct {
	from    *actor.PID // the user actor
	session string
	message any
}

// NewFanout returns a Fanout, which ends with Close.
func NewFanout(m *Metrics, log *slog.Logger) *Fanout {
	return &Fanout{
		metrics: m, log: log.With("component", "actors"), to: fanoutName, wait: fanoutWait, nodes: make(map[string]*outgoing), stop: make(chan struct{}),
	}
}

// Close ends it: what waits is dropped, and nothing more is taken. A second Close does nothing.
func (f *Fanout) Close() {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.stop)
	}
	f.mu.Unlock()
	f.sending.Wait()
}

// Send brings a message to a session. All that is sent from one actor to one session arrives in order, or not at all.
func (f *Fanout) Send(ctx actor.Context, session *actor.PID, msg any) {
	if !leaves(ctx.ActorSystem(), session) {
		ctx.Send(session, msg)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	node := f.nodes[session.Address]
	if node == nil {
		node = new(outgoing)
		f.nodes[session.Address] = node
		system := ctx.ActorSystem()
		f.sending.Go(func() { f.run(system, actor.NewPID(session.Address, f.to), node) })
	}
	node.add(ctx.Self(), session.Id, msg)
}

// add appends a message. Over the bound, the session is closed in its place: with a gap in its messages it must not go on.
func (n *outgoing) add(from *actor.PID, session string, msg any) {
	if _, closed := n.slow[session]; closed {
		return
	}
	if len(n.waiting) >= fanoutMost {
		if n.slow == nil {
			n.slow = make(map[string]struct{})
		}
		n.slow[session] = struct{}{}
		msg = closeSession{crier.CloseSlow}
	}
	n.waiting = append(n.waiting, addressed{from, session, msg})
}

// run sends what waits for a node, a packet at a time, until nothing does.
func (f *Fanout) run(system *actor.ActorSystem, to *actor.PID, node *outgoing) {
	c := &crossings{Fanout: f, root: system.Root, to: to, taken: make(receipts, 8)}
	c.self, _ = system.ProcessRegistry.Add(c.taken, system.ProcessRegistry.NextId())
	defer system.ProcessRegistry.Remove(c.self)
	for waiting := f.take(to.Address, node); len(waiting) > 0; waiting = f.take(to.Address, node) {
		for len(waiting) > 0 {
			rest, taken := c.sendOne(waiting, fanoutTries)
			if !taken {
				c.log.Info("a node does not answer: its sessions have missed something and are closed", "address", to.Address)
				c.close(waiting)
				rest = nil
			}
			waiting = rest
		}
	}
}

// crossings are the packets that go to one node, numbered from 1.
type crossings struct {
	*Fanout
	root   *actor.RootContext
	self   *actor.PID // of taken
	to     *actor.PID
	taken  receipts
	number uint32 // of the last packet
}

// sendOne sends what there is room for in a packet, and returns the rest.
func (c *crossings) sendOne(waiting []addressed, tries int) (rest []addressed, taken bool) {
	p, rest := c.pack(waiting)
	missing, taken := c.send(p, tries)
	c.tell(waiting[:len(waiting)-len(rest)], missing)
	return rest, taken
}

// close closes the sessions that were to get something: with a gap in its messages none must go on.
func (c *crossings) close(missed []addressed) {
	var all []addressed
	seen := make(map[string]struct{})
	for _, a := range missed {
		if _, ok := seen[a.session]; !ok {
			seen[a.session] = struct{}{}
			all = append(all, addressed{a.from, a.session, closeSession{crier.CloseSlow}})
		}
	}
	for taken := true; taken && len(all) > 0; {
		all, taken = c.sendOne(all, closeTries)
	}
}

// send sends one packet until it is answered, or as often as said, and returns the sessions that are missing there.
func (c *crossings) send(p *actorv1.Packet, tries int) (missing []string, taken bool) {
	c.number++
	from := &actor.PID{Address: c.self.Address, Id: c.self.Id, RequestId: c.number}
	for range tries {
		c.root.RequestWithCustomSender(c.to, p, from)
		if missing, over := c.isOver(time.After(c.wait)); over {
			return missing, true
		}
	}
	return nil, false
}

// isOver waits for the answer to the last packet. It reports whether nothing is left to be done, and not so when the time has come.
func (c *crossings) isOver(time <-chan time.Time) (missing []string, over bool) {
	for {
		select {
		case r := <-c.taken:
			if r.number == c.number {
				return r.missing, true
			}
		case <-time:
			return nil, false
		case <-c.stop:
			return nil, true
		}
	}
}

// tell tells the user actors of sessions that are missing.
func (c *crossings) tell(sent []addressed, missing []string) {
	gone := make(map[string]struct{}, len(missing))
	for _, session := range missing {
		gone[session] = struct{}{}
	}
	for _, a := range sent {
		if _, ok := gone[a.session]; ok {
			c.root.Send(a.from, sessionMissing{actor.NewPID(c.to.Address, a.session)})
			delete(gone, a.session)
		}
	}
}

// receipts is the process that the other node answers to.
type receipts chan receipt

// receipt says that a packet was taken.
type receipt struct {
	number  uint32
	missing []string
}

// SendUserMessage is protoactor's: an answer has come.
func (r receipts) SendUserMessage(pid *actor.PID, message any) {
	_, answer, _ := actor.UnwrapEnvelope(message)
	packet, ok := answer.(*actorv1.Packet)
	if !ok {
		return // it is a dead letter: not taken
	}
	content, _ := Codec{}.Decode(packet.GetBody()) // what it says else: it was taken
	taken, _ := content.(fanoutTaken)
	select {
	case r <- receipt{pid.GetRequestId(), taken.missing}:
	default: // to a packet that was sent again and again
	}
}

// SendSystemMessage is protoactor's; nobody watches receipts.
func (receipts) SendSystemMessage(*actor.PID, any) {}

// Stop is protoactor's.
func (receipts) Stop(*actor.PID) {}

// take returns what waits for a node. Where that is nothing, the next message begins anew.
func (f *Fanout) take(address string, node *outgoing) []addressed {
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting := node.waiting
	node.waiting, node.slow = nil, nil
	if f.closed {
		waiting = nil
	}
	if len(waiting) == 0 {
		delete(f.nodes, address)
	}
	return waiting
}

// pack puts what waits into a packet, in order, and returns what it has no room for. It takes one message at least.
func (f *Fanout) pack(waiting []addressed) (*actorv1.Packet, []addressed) {
	var out fanout
	places := make(map[any]int)
	size, n := 0, 0
	for ; n < len(waiting) && size < fanoutBytes; n++ {
		place, ok := places[bodyOf(waiting[n].message)]
		if !ok {
			body, err := Codec{}.Encode(waiting[n].message)
			if err != nil {
				f.log.Error("a message can't go to a session of another node", "type", fmt.Sprintf("%T", waiting[n].message), "err", err)
				continue
			}
			place = len(out.bodies)
			places[bodyOf(waiting[n].message)] = place
			out.bodies = append(out.bodies, body)
			size += len(body)
		}
		out.letters = append(out.letters, letter{waiting[n].session, place})
		size += len(waiting[n].session)
	}
	f.metrics.fanoutMessages.Add(float64(len(out.letters)))
	f.metrics.fanoutBodies.Add(float64(len(out.bodies)))
	body, err := Codec{}.Encode(out)
	if err != nil {
		panic(err) // bytes and names of actors can always be sent
	}
	return &actorv1.Packet{Body: body}, waiting[n:]
}

// sameBody is equal for deliveries that are.
type sameBody struct {
	task        crier.TaskID
	fromMailbox bool
}

// bodyOf returns what is equal for messages that are. Each partition makes a delivery of its own of the same push.
func bodyOf(msg any) any {
	if d, ok := msg.(*crier.Delivery); ok {
		return sameBody{d.Task, d.FromMailbox}
	}
	return msg
}

// ServeFanout starts the actor that takes what other nodes send to sessions of this one. The error says that there is one.
func ServeFanout(system *actor.ActorSystem, m *Metrics) error {
	_, err := system.Root.SpawnNamed(crossingProps(m, func() actor.Actor { return &mailroom{m} }), fanoutName)
	return err
}

// mailroom hands what is in a packet to the sessions. They share each message.
type mailroom struct{ metrics *Metrics }

// Receive takes one message.
func (r *mailroom) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case fanout:
		r.onFanout(ctx, m)
	default:
		unknownMessage(ctx, r.metrics)
	}
}

// onFanout answers at the end, when the sender may send more.
func (r *mailroom) onFanout(ctx actor.Context, m fanout) {
	messages := make([]any, len(m.bodies))
	for i, body := range m.bodies {
		var err error
		if messages[i], err = (Codec{}).Decode(body); err != nil {
			r.metrics.unknown.Inc()
			ctx.Logger().Debug("a message for sessions can't be read", slog.Any("err", err))
		}
	}
	var missing []string
	for _, l := range m.letters {
		if _, there := ctx.ActorSystem().ProcessRegistry.GetLocal(l.session); !there {
			missing = append(missing, l.session)
		} else if l.body < len(messages) && messages[l.body] != nil {
			ctx.Send(ctx.ActorSystem().NewLocalPID(l.session), messages[l.body])
		}
	}
	ctx.Respond(fanoutTaken{missing})
}
