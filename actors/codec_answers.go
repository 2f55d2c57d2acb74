package actors

import (
	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
	typesv1 "github.com/crier-im/crier/proto/crier/types/v1"
)

// encodeAnswer sets the kind of b to an answer; another message leaves it.
func encodeAnswer(b *actorv1.Body, msg any) error {
	switch m := msg.(type) {
	case failed:
		if m.err == nil {
			return errIncomplete
		}
		b.Kind = &actorv1.Body_Failed{Failed: fromError(m.err)}
	case done:
		b.Kind = &actorv1.Body_Done{Done: &actorv1.Done{Index: m.index}}
	case changed:
		b.Kind = &actorv1.Body_Changed{Changed: fromChanged(m)}
	case checked:
		b.Kind = &actorv1.Body_Checked{Checked: fromChecked(m)}
	case []*crier.Account:
		b.Kind = &actorv1.Body_Accounts{Accounts: fromAccounts(m)}
	case []crier.Presence:
		b.Kind = &actorv1.Body_Presences{Presences: &actorv1.Presences{Presences: each(m, wire.FromPresence)}}
	case []crier.Report:
		b.Kind = &actorv1.Body_Reports{Reports: &actorv1.Reports{Reports: each(m, wire.FromReport)}}
	case *crier.Funnel:
		b.Kind = &actorv1.Body_Funnel{Funnel: &actorv1.FunnelResult{Funnel: wire.FromFunnel(m)}}
	case *crier.Campaign:
		b.Kind = &actorv1.Body_Campaign{Campaign: &actorv1.CampaignResult{Campaign: fromCampaign(m)}}
	case *crier.Explanation:
		b.Kind = &actorv1.Body_Explanation{Explanation: &actorv1.ExplainResult{Explanation: fromExplanation(m)}}
	case []crier.UserID:
		b.Kind = &actorv1.Body_Users{Users: &actorv1.Users{Users: fromTexts(m)}}
	case started:
		b.Kind = &actorv1.Body_Started{Started: &actorv1.Started{Total: m.total}}
	case attached:
		b.Kind = &actorv1.Body_Attached{Attached: &actorv1.Attached{User: fromPID(m.user), Term: m.term}}
	case repeated:
		b.Kind = &actorv1.Body_Repeated{Repeated: &actorv1.Repeated{First: fromCampaign(m.first), Error: fromError(m.err)}}
	}
	return nil
}

// decodeAnswer returns an answer, nil for another message.
func decodeAnswer(b *actorv1.Body) (any, error) {
	switch k := b.GetKind().(type) {
	case *actorv1.Body_Failed:
		return failed{toError(k.Failed)}, nil
	case *actorv1.Body_Done:
		return done{k.Done.GetIndex()}, nil
	case *actorv1.Body_Changed:
		return toChanged(k.Changed), nil
	case *actorv1.Body_Checked:
		return toChecked(k.Checked), nil
	case *actorv1.Body_Accounts:
		return toAccounts(k.Accounts), nil
	case *actorv1.Body_Presences:
		return values(k.Presences.GetPresences(), wire.ToPresence), nil
	case *actorv1.Body_Reports:
		return values(k.Reports.GetReports(), wire.ToReport), nil
	case *actorv1.Body_Funnel:
		return wire.ToFunnel(k.Funnel.GetFunnel()), nil
	case *actorv1.Body_Campaign:
		return toCampaign(k.Campaign.GetCampaign())
	case *actorv1.Body_Explanation:
		if k.Explanation.GetExplanation() == nil {
			return nil, errIncomplete
		}
		return wire.ToExplanation(k.Explanation.GetExplanation()), nil
	case *actorv1.Body_Users:
		return texts[crier.UserID](k.Users.GetUsers()), nil
	case *actorv1.Body_Started:
		return started{k.Started.GetTotal()}, nil
	case *actorv1.Body_Attached:
		pid, err := toPID(k.Attached.GetUser())
		return attached{pid, k.Attached.GetTerm()}, err
	case *actorv1.Body_Repeated:
		first, err := toCampaign(k.Repeated.GetFirst())
		return repeated{first, toError(k.Repeated.GetError())}, err
	}
	return nil, nil
}

// each and values convert lists; nil stays nil.
func each[T, P any](in []T, from func(*T) *P) []*P {
	var out []*P
	for i := range in {
		out = append(out, from(&in[i]))
	}
	return out
}

func values[T, P any](in []*P, to func(*P) T) []T {
	var out []T
	for _, p := range in {
		out = append(out, to(p))
	}
	return out
}

func fromExplanation(e *crier.Explanation) *typesv1.Explanation {
	if e == nil {
		return nil
	}
	return wire.FromExplanation(e)
}

func fromChanged(m changed) *actorv1.Changed {
	return &actorv1.Changed{Outcomes: each(m.errs, func(err *error) *actorv1.Outcome { return &actorv1.Outcome{Error: fromError(*err)} })}
}

func toChanged(p *actorv1.Changed) changed {
	return changed{values(p.GetOutcomes(), func(o *actorv1.Outcome) error { return toError(o.GetError()) })}
}

func fromChecked(m checked) *actorv1.Checked {
	return &actorv1.Checked{Refusals: each(m.refusals, func(r *refusal) *actorv1.Refusal {
		return &actorv1.Refusal{At: uint32(r.at), Error: fromError(r.err)}
	})}
}

func toChecked(p *actorv1.Checked) checked {
	return checked{values(p.GetRefusals(), func(r *actorv1.Refusal) refusal { return refusal{int(r.GetAt()), toError(r.GetError())} })}
}

func fromAccounts(accounts []*crier.Account) *actorv1.Accounts {
	return &actorv1.Accounts{Accounts: each(accounts, func(a **crier.Account) *actorv1.AccountOrNone {
		if *a == nil {
			return new(actorv1.AccountOrNone)
		}
		return &actorv1.AccountOrNone{App: uint32((*a).App), Account: wire.FromAccount(*a)}
	})}
}

func toAccounts(p *actorv1.Accounts) []*crier.Account {
	return values(p.GetAccounts(), func(a *actorv1.AccountOrNone) *crier.Account {
		if a.GetAccount() == nil {
			return nil
		}
		return wire.ToAccount(crier.AppID(a.GetApp()), a.GetAccount())
	})
}
