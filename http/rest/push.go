package rest

import (
	"context"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/crier-im/crier"
)

// reportZone is in what StartTime is given: UTC+8.
var reportZone = time.FixedZone("UTC+8", 8*60*60)

// imPush accepts a push.
func imPush(ctx context.Context, c *call) (answer, error) {
	req := &crier.PushRequest{App: c.app.ID, RequestID: uuid.NewString()}
	for _, read := range []func(*call, *crier.PushRequest) error{
		readRandom, readElements, readLifeTime, readSender, readCondition, readOffline,
	} {
		if err := read(c, req); err != nil {
			return nil, err
		}
	}
	if !c.app.PushEnabled {
		return nil, crier.Errorf(crier.CodePushOff, "push is not enabled for app %d", c.app.ID)
	}
	task, err := c.api.service.Push(ctx, req)
	if task != "" {
		return answer{"TaskId": string(task)}, err
	}
	return nil, err
}

func readRandom(c *call, req *crier.PushRequest) error {
	n, ok := c.body.get("MsgRandom").integer()
	if !ok || n < 0 || n > math.MaxUint32 {
		return crier.Errorf(crier.CodeBadMsgRandom, "MsgRandom is missing or not an integer in 0..4294967295")
	}
	req.Random = uint32(n)
	return nil
}

// readElements reads MsgBody. One element stands for an array of one, also
// flat at the top level.
func readElements(c *call, req *crier.PushRequest) error {
	v := c.body.get("MsgBody")
	isElement := func(v *value) bool { return v.is('{') && v.get("MsgType") != nil }
	var list []*value
	switch {
	case v == nil && isElement(c.body):
		list = []*value{c.body}
	case v == nil:
		return crier.Errorf(crier.CodeNoMsgBody, "MsgBody is missing")
	case isElement(v):
		list = []*value{v}
	case v.is('['):
		list = v.list
	default:
		return crier.Errorf(crier.CodeMsgBodyNotArray, "MsgBody is not an array")
	}
	for i, e := range list {
		if !e.is('{') || !e.get("MsgType").is('"') {
			return crier.Errorf(crier.CodeBadElement, "MsgBody[%d] is not an object with a string MsgType", i)
		}
		var content []byte
		switch m := e.get("MsgContent"); {
		case m == nil:
		case m.is('[') && len(m.list) == 0:
			content = []byte("{}")
		default:
			content = m.json()
		}
		req.Message.Elements = append(req.Message.Elements, crier.Element{Type: crier.ElementType(e.get("MsgType").text), Content: content})
	}
	return crier.CheckElements(req.Message.Elements)
}

func readLifeTime(c *call, req *crier.PushRequest) error {
	v := c.body.get("MsgLifeTime")
	if v == nil {
		return nil
	}
	n, ok := v.integer()
	switch most := int64(crier.MaxLifeTime / time.Second); {
	case v.huge():
		return crier.Errorf(crier.CodeLifeTimeTooLong, "MsgLifeTime is over the limit of %d s", most)
	case !ok || n < 0:
		return crier.Errorf(crier.CodeBadLifeTime, "MsgLifeTime is not an integer of 0 or more")
	case n > most:
		return crier.Errorf(crier.CodeLifeTimeTooLong, "MsgLifeTime is %d s, the limit is %d s", n, most)
	}
	req.LifeTime = time.Duration(n) * time.Second
	return nil
}

func readSender(c *call, req *crier.PushRequest) (err error) {
	req.Message.From = c.user
	v := c.body.get("From_Account")
	if v == nil {
		return nil
	}
	req.Message.From, err = accountName(v, "From_Account")
	return err
}

// readCondition reads Condition. It is strict, but for the forms that mean
// nothing else: a wrong audience is worse than a refused push. So a list that is null is absent,
// but an attribute whose value is null has none: absent, it would widen the audience.
func readCondition(c *call, req *crier.PushRequest) error {
	v := c.body.get("Condition")
	if v == nil || v.is('[') && len(v.list) == 0 {
		return nil
	}
	bad := func(what string) error { return crier.Errorf(crier.CodeBadCondition, "Condition%s", what) }
	if !v.is('{') {
		return bad(" is not an object")
	}
	var spec crier.ConditionSpec
	for _, m := range v.members {
		key, f, ok := m.name, m.value, true
		switch key {
		case "TagsOr":
			spec.TagsOr, ok = f.tags()
		case "TagsAnd":
			spec.TagsAnd, ok = f.tags()
		case "TagsNot":
			spec.TagsNot, ok = f.tags()
		case "AttrsOr":
			spec.AttrsOr, ok = f.stringMap()
		case "AttrsAnd":
			spec.AttrsAnd, ok = f.stringMap()
		default:
			return bad(" has an unknown key " + crier.Quote(key))
		}
		if !ok {
			return bad("." + key + " is malformed: tags are an array of strings, attributes an object of strings")
		}
	}
	var err error
	req.Condition, err = crier.ParseCondition(spec, &c.app.AttrNames)
	return err
}

// tags returns an array of strings; an empty object counts as an empty array.
func (v *value) tags() ([]string, bool) {
	if v.is('{') && len(v.members)+len(v.nulls) == 0 {
		return nil, true
	}
	if !v.is('[') {
		return nil, false
	}
	return v.stringList()
}

// imGetPushReport tells how far pushes are.
func imGetPushReport(ctx context.Context, c *call) (answer, error) {
	v := c.body.get("TaskIds")
	if v == nil || v.is('[') && len(v.list) == 0 {
		return nil, crier.Errorf(crier.CodeNoTasks, "TaskIds is missing or empty")
	}
	list, ok := v.stringList()
	switch {
	case v.is('[') && len(v.list) > crier.MaxReportTasks:
		return nil, crier.Errorf(crier.CodeTooManyTasks, "TaskIds has %d ids, the limit is %d", len(v.list), crier.MaxReportTasks)
	case !ok || v.is('{'):
		return nil, crier.Errorf(crier.CodeUnknownTask, "TaskIds is not an array of strings")
	}
	tasks := make([]crier.TaskID, len(list))
	for i, id := range list {
		tasks[i] = crier.TaskID(id)
	}
	reports, err := c.api.service.Reports(ctx, c.app.ID, tasks)
	if err != nil {
		return nil, err
	}
	out := make([]map[string]any, len(reports))
	for i, r := range reports {
		out[i] = map[string]any{"TaskId": string(r.Task), "Status": int(r.Status), "Finished": r.Finished, "Total": r.Total}
		if r.Status != crier.StatusWaiting {
			out[i]["StartTime"] = r.Started.In(reportZone).Format(time.DateTime)
		}
	}
	return answer{"Reports": out}, nil
}
