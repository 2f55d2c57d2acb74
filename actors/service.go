package actors

import (
	"context"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"

	"github.com/crier-im/crier"
)

// DefaultCallTimeout is how long a call may take: the callers' own time-out is over 3 s.
const DefaultCallTimeout = 2900 * time.Millisecond

// systemTick is how often a call looks whether this node has what it has changed.
const systemTick = time.Millisecond

// Service is the front door of the actors: what the REST API, the operator's
// API and the gateway call. It groups accounts by partition, one message each. Safe for
// concurrent use.
type Service struct {
	node    string
	dir     Router
	system  SystemReplica
	vendors Vendors
	actors  *actor.ActorSystem
	metrics *Metrics
	log     *slog.Logger
	rounds  *changeRounds
	timeout time.Duration // of a call

	commands *commandIDs
	sessions *attachments
	spawner  *spawner // of sessions
}

// NewService returns a front door. node names the one that it is on; system serves reads only; changes go through dir. A call that has not succeeded after the
// timeout fails with CodeTimeout; until then it is tried again.
func NewService(node string, dir Router, system SystemReplica, vendors Vendors, actors *actor.ActorSystem, timeout time.Duration, m *Metrics, log *slog.Logger) *Service {
	return &Service{
		node: node, dir: dir, system: system, vendors: vendors, actors: actors, timeout: timeout, metrics: m,
		log: log.With("component", "service"), commands: newCommandIDs(), rounds: newChangeRounds(), sessions: newAttachments(),
		spawner: newSpawner(m, sessions),
	}
}

// App returns an app, nil where there is none.
func (s *Service) App(id crier.AppID) *crier.App { return s.system.App(id) }

// Apps returns every app by id.
func (s *Service) Apps() []*crier.App { return s.system.Apps() }

// CreateApp adds an app; CodeBadParameter if the id is taken or a field is invalid.
func (s *Service) CreateApp(ctx context.Context, app *crier.App) error {
	if err := app.Validate(); err != nil {
		return err
	}
	return s.changeSystem(ctx, func(id crier.CommandID) any { return createApp{id, app} })
}

// UpdateApp replaces everything of an app but its attribute names.
func (s *Service) UpdateApp(ctx context.Context, app *crier.App) error {
	if err := app.Validate(); err != nil {
		return err
	}
	return s.changeSystem(ctx, func(id crier.CommandID) any { return updateApp{id, app} })
}

// SetAttrNames names attribute slots.
func (s *Service) SetAttrNames(ctx context.Context, id crier.AppID, set map[int]string) error {
	return s.changeSystem(ctx, func(command crier.CommandID) any { return setAttrNames{command, id, set} })
}

func (s *Service) changeSystem(ctx context.Context, msg func(crier.CommandID) any) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	id := s.commands.begin(crier.SystemPartition)
	defer s.commands.end(crier.SystemPartition, id)
	return s.requestSystem(ctx, msg(id))
}

// WaitForSystem blocks until this node's replica of the system group has everything that was acknowledged before, or ctx ends: a node that
// comes back would know neither new apps nor names.
func (s *Service) WaitForSystem(ctx context.Context) error {
	for {
		try, cancel := context.WithTimeout(ctx, s.timeout)
		err := s.requestSystem(try, readIndex{})
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// requestSystem asks the system group, and waits until this node has what the answer speaks of.
func (s *Service) requestSystem(ctx context.Context, msg any) error {
	answer, err := s.dir.Request(ctx, crier.KindPartition, crier.SystemPartition.String(), msg)
	if err != nil {
		return err
	}
	d, _ := answer.(done)
	tick := time.NewTicker(systemTick)
	defer tick.Stop()
	for s.system.Index() < d.index {
		select {
		case <-ctx.Done():
			return &crier.Error{Code: crier.CodeTimeout, Info: crier.CodeTimeout.Text(), Err: ctx.Err()}
		case <-tick.C:
		}
	}
	return nil
}

// byPartition groups the places of users by their partition.
func (s *Service) byPartition(app crier.AppID, n int, user func(int) crier.UserID) map[crier.PartitionID][]int {
	partitions := make([]crier.PartitionID, n)
	sizes := make([]int, s.dir.Partitions())
	for i := range n {
		partitions[i] = crier.PartitionOf(app, user(i), len(sizes))
		sizes[partitions[i]]++
	}
	groups := make(map[crier.PartitionID][]int, min(n, len(sizes)))
	places := make([]int, 0, n) // of all groups
	for p, size := range sizes {
		if size > 0 {
			end := len(places)
			groups[crier.PartitionID(p)] = places[end : end : end+size]
			places = places[:end+size]
		}
	}
	for i, p := range partitions {
		groups[p] = append(groups[p], i)
	}
	return groups
}

// pick returns the elements at the places.
func pick[T any](all []T, places []int) []T {
	some := make([]T, len(places))
	for i, place := range places {
		some[i] = all[place]
	}
	return some
}

// Accounts returns the accounts asked for, nil in the place of one that does not exist.
func (s *Service) Accounts(ctx context.Context, app crier.AppID, users []crier.UserID) ([]*crier.Account, error) {
	return scatter(ctx, s, app, users, func(some []crier.UserID) any { return readAccounts{app, some} }, []*crier.Account(nil))
}

// Presence returns who is connected, in the order asked.
func (s *Service) Presence(ctx context.Context, app crier.AppID, users []crier.UserID) ([]crier.Presence, error) {
	return scatter(ctx, s, app, users, func(some []crier.UserID) any { return readPresence{app, some} }, []crier.Presence(nil))
}

// scatter asks the users' partitions, and puts the answers in the order asked.
func scatter[T any](ctx context.Context, s *Service, app crier.AppID, users []crier.UserID, msg func([]crier.UserID) any, _ []T) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	all := make([]T, len(users))
	groups := s.byPartition(app, len(users), func(i int) crier.UserID { return users[i] })
	messages := make(map[crier.PartitionID]any, len(groups))
	for p, places := range groups {
		messages[p] = msg(pick(users, places))
	}
	var failed error
	s.dir.RequestEach(ctx, messages, func(p crier.PartitionID, answer any, err error) {
		some, ok := answer.([]T)
		switch {
		case err != nil:
			failed = err
		case ok && len(some) == len(groups[p]):
			for i, place := range groups[p] {
				all[place] = some[i]
			}
		}
	})
	if failed != nil {
		return nil, failed
	}
	return all, nil
}

// Push accepts a push. With CodePushRepeated the id of the first one is returned too.
func (s *Service) Push(ctx context.Context, req *crier.PushRequest) (crier.TaskID, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	app := s.App(req.App)
	if app == nil {
		return "", crier.Errorf(crier.CodeUnknownApp, "there is no app %d", req.App)
	}
	if !app.IsAdmin(req.Message.From) {
		accounts, err := s.Accounts(ctx, req.App, []crier.UserID{req.Message.From})
		if err != nil {
			return "", err
		}
		if accounts[0] == nil {
			return "", crier.Errorf(crier.CodeUnknownAccount, "From_Account: account %s does not exist", crier.Quote(string(req.Message.From)))
		}
	}
	answer, err := s.dir.Request(ctx, crier.KindApp, req.App.String(), acceptPush{req})
	if err != nil {
		return "", err
	}
	switch a := answer.(type) {
	case *crier.Campaign:
		return a.Task, nil
	case repeated:
		return a.first.Task, a.err
	}
	return "", crier.Errorf(crier.CodeInternal, "internal error, try again")
}

// Reports returns the progress of campaigns in the order asked.
func (s *Service) Reports(ctx context.Context, app crier.AppID, tasks []crier.TaskID) ([]crier.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	home := crier.HomePartition(app, s.dir.Partitions())
	answer, err := s.dir.Request(ctx, crier.KindPartition, home.String(), readReports{app, tasks})
	if err != nil {
		return nil, err
	}
	reports, _ := answer.([]crier.Report)
	return reports, nil
}

// Connect starts the session of an authenticated login, and returns when its
// account's partition has taken it in. Messages begin to arrive on conn after it has returned.
func (s *Service) Connect(ctx context.Context, login crier.Login, conn crier.Conn) (crier.Session, error) {
	if login.Session == "" {
		login.Session = crier.SessionID(uuid.NewString())
	}
	login.Node = s.node
	root, partition := outboxOf(s.actors), crier.PartitionOf(login.App, login.User, s.dir.Partitions())
	pid := s.spawner.spawn(root, &session{service: s, login: &login, partition: partition, conn: conn})
	answer, err := s.dir.Request(ctx, crier.KindUser, crier.UserIdentity(login.App, login.User), attachSession{login: &login, session: pid})
	if err != nil {
		root.Stop(pid)
		return nil, err
	}
	a, ok := answer.(attached)
	if !ok {
		root.Stop(pid)
		return nil, crier.Errorf(crier.CodeInternal, "internal error, try again")
	}
	root.Send(pid, begin(a))
	return sessionHandle{root, pid, login.Session}, nil
}
