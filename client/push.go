package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/crier-im/crier"
)

// maxDraws is how often another Random is drawn, where one was used before.
const maxDraws = 3

// Push is one push. Elements or, for the simplest case, Text is required.
type Push struct {
	Text      string              // one TIMTextElem, put before Elements
	Elements  []crier.Element     // see Custom for the most used kind
	Condition crier.ConditionSpec // whom it reaches; the zero value: every account
	// LifeTime is how long the message is kept for accounts that are not online, in
	// whole seconds up to 7 days. Zero: only who is online gets it.
	LifeTime time.Duration
	From     crier.UserID // the sender that receivers see; empty: the calling admin
	Offline  *OfflinePush // how a vendor notification looks; nil: as the elements say
	// Random names the push: the server takes one value once in 7 days. Zero: a random one is chosen, and a call
	// that is tried again can't push twice. Set it to be safe over restarts of the caller too.
	Random uint32
}

// OfflinePush is OfflinePushInfo.
type OfflinePush struct {
	PushFlag int    `json:"PushFlag,omitempty"` // 1: no vendor notification
	Title    string `json:"Title,omitempty"`
	Desc     string `json:"Desc,omitempty"`
	Ext      string `json:"Ext,omitempty"`
}

// Custom makes a TIMCustomElem; desc is what a notification shows.
func Custom(data, desc, ext string) crier.Element {
	content, err := json.Marshal(map[string]string{"Data": data, "Desc": desc, "Ext": ext})
	if err != nil {
		panic("client: " + err.Error()) // strings always marshal
	}
	return crier.Element{Type: crier.CustomElement, Content: content}
}

type condition struct {
	TagsOr   []string          `json:",omitempty"`
	TagsAnd  []string          `json:",omitempty"`
	TagsNot  []string          `json:",omitempty"`
	AttrsOr  map[string]string `json:",omitempty"`
	AttrsAnd map[string]string `json:",omitempty"`
}

type pushBody struct {
	MsgRandom       uint32
	MsgLifeTime     int64
	MsgBody         []crier.Element
	From_Account    crier.UserID `json:",omitempty"`
	Condition       *condition   `json:",omitempty"`
	OfflinePushInfo *OfflinePush `json:",omitempty"`
}

// Push pushes and returns the task's id. The push runs on; Report tells how far it is.
//
// The call is tried again with the same MsgRandom. If the server has seen that one before, because the answer to
// an earlier try was lost, the id of the first push is returned: without an error where Push chose the Random,
// and with crier.CodePushRepeated where the caller did, who alone can know whether it is the same push. Where the first try of a Random
// that Push chose is told so, another push has drawn the same (of 77,000 pushes in 7 days two do with even odds): it draws again.
func (c *Client) Push(ctx context.Context, p Push) (crier.TaskID, error) {
	if p.LifeTime%time.Second != 0 {
		return "", fmt.Errorf("life time %v is not in whole seconds", p.LifeTime)
	}
	body := pushBody{
		MsgRandom: p.Random, MsgLifeTime: int64(p.LifeTime / time.Second), MsgBody: p.Elements,
		From_Account: p.From, OfflinePushInfo: p.Offline,
	}
	if p.Text != "" {
		content, err := json.Marshal(map[string]string{"Text": p.Text})
		if err != nil {
			return "", fmt.Errorf("push: %w", err)
		}
		body.MsgBody = append([]crier.Element{{Type: crier.TextElement, Content: content}}, p.Elements...)
	}
	if s := p.Condition; len(s.TagsOr)+len(s.TagsAnd)+len(s.TagsNot)+len(s.AttrsOr)+len(s.AttrsAnd) > 0 {
		body.Condition = &condition{s.TagsOr, s.TagsAnd, s.TagsNot, s.AttrsOr, s.AttrsAnd}
	}
	for draws := 0; ; draws++ {
		if p.Random == 0 {
			body.MsgRandom = rand.Uint32()
		}
		var out struct{ TaskId crier.TaskID }
		tries, err := c.call(ctx, "openim/im_push", false, body, &out)
		if errors.Is(err, crier.CodePushRepeated) && p.Random == 0 {
			if tries == 1 && draws < maxDraws {
				continue
			}
			if tries > 1 && out.TaskId != "" {
				err = nil
			}
		}
		return out.TaskId, err
	}
}

// Report returns how far pushes are, in the order asked, up to 500 of them.
// Started is zero for one that still waits.
func (c *Client) Report(ctx context.Context, tasks ...crier.TaskID) ([]crier.Report, error) {
	var out struct {
		Reports []struct {
			TaskId    crier.TaskID
			Status    crier.Status
			StartTime string
			Finished  uint64
			Total     uint64
		}
	}
	const command = "openim/im_get_push_report"
	if _, err := c.call(ctx, command, false, map[string]any{"TaskIds": tasks}, &out); err != nil {
		return nil, err
	}
	reports := make([]crier.Report, 0, len(out.Reports))
	for _, r := range out.Reports {
		report := crier.Report{Task: r.TaskId, Status: r.Status, Finished: r.Finished, Total: r.Total}
		if r.StartTime != "" {
			at, err := time.ParseInLocation(time.DateTime, r.StartTime, beijing)
			if err != nil {
				return nil, fmt.Errorf("%s: start time: %w", command, err)
			}
			report.Started = at.UTC()
		}
		reports = append(reports, report)
	}
	return reports, nil
}

// beijing is the time zone of the wire contract.
var beijing = time.FixedZone("UTC+8", 8*60*60)
