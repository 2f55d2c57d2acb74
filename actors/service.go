package actors

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
)

// callTimeout is how long a call may take: the callers' own time-out is over 3 s.
const callTimeout = 2900 * time.Millisecond

// Service is the front door of the actors: what the REST API, the operator's
// API and the gateway call. It groups accounts by partition, one message each. Safe for
// concurrent use.
type Service struct {
	dir     Directory
	system  SystemReplica
	actors  *actor.ActorSystem
	metrics *Metrics
	log     *slog.Logger
}

// NewService returns a front door. system serves reads only; changes go through dir.
func NewService(dir Directory, system SystemReplica, actors *actor.ActorSystem, m *Metrics, log *slog.Logger) *Service {
	return &Service{dir: dir, system: system, actors: actors, metrics: m, log: log.With("component", "service")}
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
	return s.changeSystem(ctx, createApp{app})
}

// UpdateApp replaces everything of an app but its attribute names.
func (s *Service) UpdateApp(ctx context.Context, app *crier.App) error {
	if err := app.Validate(); err != nil {
		return err
	}
	return s.changeSystem(ctx, updateApp{app})
}

// SetAttrNames names attribute slots.
func (s *Service) SetAttrNames(ctx context.Context, id crier.AppID, set map[int]string) error {
	return s.changeSystem(ctx, setAttrNames{id, set})
}

func (s *Service) changeSystem(ctx context.Context, msg any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := s.dir.Request(ctx, crier.KindPartition, crier.SystemPartition.String(), msg)
	return err
}

// byPartition groups the places of users by their partition.
func (s *Service) byPartition(app crier.AppID, n int, user func(int) crier.UserID) map[crier.PartitionID][]int {
	groups := make(map[crier.PartitionID][]int)
	for i := range n {
		p := crier.PartitionOf(app, user(i), s.dir.Partitions())
		groups[p] = append(groups[p], i)
	}
	return groups
}

// ask sends one message to each partition, in parallel. take gets the answers, several
// at a time, each with the places it is about.
func (s *Service) ask(ctx context.Context, groups map[crier.PartitionID][]int, msg func([]int) any, take func([]int, any)) error {
	group, ctx := errgroup.WithContext(ctx)
	for p, places := range groups {
		group.Go(func() error {
			answer, err := s.dir.Request(ctx, crier.KindPartition, strconv.Itoa(int(p)), msg(places))
			if err == nil {
				take(places, answer)
			}
			return err
		})
	}
	return group.Wait()
}

// pick returns the elements at the places.
func pick[T any](all []T, places []int) []T {
	some := make([]T, len(places))
	for i, place := range places {
		some[i] = all[place]
	}
	return some
}

// ChangeAccounts applies changes in order, all or nothing. Within one partition
// that is one command of its log. Over several, all are asked first whether they would take their part, and
// told to do so if all would; an account that another call deletes in between is the one case
// where some partitions have changed when the call fails, and then the error is CodeInternal and says so.
func (s *Service) ChangeAccounts(ctx context.Context, app crier.AppID, changes []crier.Change) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	groups := s.byPartition(app, len(changes), func(i int) crier.UserID { return changes[i].User })
	if len(groups) > 1 && !alwaysTaken(changes) {
		if err := s.check(ctx, app, changes, groups); err != nil {
			return err
		}
	}
	err := s.ask(ctx, groups, func(places []int) any { return changeAccounts{app, pick(changes, places)} }, func([]int, any) {})
	if e := crier.AsError(err); e != nil && len(groups) > 1 && e.Code != crier.CodeTimeout {
		return crier.Errorf(crier.CodeInternal, "the accounts were changed by another call at the same time; some of this call's changes may stand, send it again (%s)", e.Info)
	}
	return err
}

// alwaysTaken reports whether no change can be refused.
func alwaysTaken(changes []crier.Change) bool {
	for i := range changes {
		if changes[i].Op != crier.OpImport {
			return false
		}
	}
	return true
}

// check asks every partition, and returns the error of the first change, in the
// caller's order, that would be refused.
func (s *Service) check(ctx context.Context, app crier.AppID, changes []crier.Change, groups map[crier.PartitionID][]int) error {
	refusals := make([]error, len(changes))
	err := s.ask(ctx, groups, func(places []int) any { return checkChanges{app, pick(changes, places)} }, func(places []int, answer any) {
		if c, ok := answer.(checked); ok && c.err != nil {
			refusals[places[c.at]] = c.err
		}
	})
	if err != nil {
		return err
	}
	for _, refusal := range refusals {
		if refusal != nil {
			return refusal
		}
	}
	return nil
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
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	all := make([]T, len(users))
	groups := s.byPartition(app, len(users), func(i int) crier.UserID { return users[i] })
	err := s.ask(ctx, groups, func(places []int) any { return msg(pick(users, places)) }, func(places []int, answer any) {
		if some, ok := answer.([]T); ok && len(some) == len(places) {
			for i, place := range places {
				all[place] = some[i]
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Push accepts a push. With CodePushRepeated the id of the first one is returned too.
func (s *Service) Push(ctx context.Context, req *crier.PushRequest) (crier.TaskID, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
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
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
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
	root := s.actors.Root
	pid := root.Spawn(actor.PropsFromProducer(func() actor.Actor {
		return &session{dir: s.dir, metrics: s.metrics, log: s.log, login: login, conn: conn}
	}))
	answer, err := s.dir.Request(ctx, crier.KindUser, crier.UserIdentity(login.App, login.User), attachSession{login: login, session: pid})
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
