package operator_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
)

func (m *memory) Funnel(_ context.Context, app crier.AppID, task crier.TaskID) (*crier.Funnel, error) {
	if m.apps[app] == nil {
		return nil, crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", task)
	}
	return &crier.Funnel{Matched: 3, Kept: true, Waiting: 3, Vendor: crier.VendorFunnel{Wanted: true, Accepted: 2, Failed: map[string]uint64{"Unregistered": 1}}}, nil
}

func (m *memory) Explain(_ context.Context, app crier.AppID, task crier.TaskID, user crier.UserID) (*crier.Explanation, error) {
	if m.apps[app] == nil {
		return nil, crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", task)
	}
	return &crier.Explanation{Task: task, User: user, Exists: true, Known: true, Matched: true, Because: []string{`tag "vip"`}}, nil
}

func (m *memory) Accounts(_ context.Context, _ crier.AppID, users []crier.UserID) ([]*crier.Account, error) {
	if users[0] == "nobody" {
		return []*crier.Account{nil}, nil
	}
	return []*crier.Account{{User: users[0], Devices: m.registered}}, nil
}

func (m *memory) RegisterDevice(_ context.Context, _ *crier.App, _ crier.UserID, d crier.Device) (crier.Device, error) {
	if err := d.Validate(); err != nil {
		return d, err
	}
	d.Registered = time.Unix(5, 0).UTC()
	m.registered = append(m.registered, d)
	return d, nil
}

func (m *memory) RemoveDevice(_ context.Context, _ crier.AppID, user crier.UserID, _ crier.Vendor, _ string) error {
	if user == "nobody" {
		return crier.Errorf(crier.CodeUnknownAccount, "account %s does not exist", user)
	}
	m.registered = nil
	return nil
}

func (m *memory) Backup(_ context.Context, w io.Writer) error {
	if m.err != nil {
		return m.err
	}
	_, err := io.WriteString(w, `"a backup"`)
	return err
}

func (m *memory) Restore(_ context.Context, r io.Reader, progress func(done, total int)) error {
	b, err := io.ReadAll(r)
	switch string(b) {
	case "half":
		return crier.Errorf(crier.CodeBadParameter, "nothing was restored")
	case "broken":
		progress(1, 2)
		return crier.Errorf(crier.CodeTimeout, "partition 1 can't be restored")
	}
	progress(1, 2)
	return err
}

// What goes wrong before it begins is an error of HTTP; afterwards the last line tells.
func TestRestore(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusBadRequest, http.MethodPost, "/v1/restore", "half")
	for body, want := range map[string]string{
		"broken": `{"done":1,"total":2}` + "\n" + `{"code":60008,"error":"partition 1 can't be restored"}` + "\n",
		"whole":  `{"done":1,"total":2}` + "\n" + `{"restored":true}` + "\n",
	} {
		if status, got := send(s.handler, "Bearer "+token, http.MethodPost, "/v1/restore", body); status != http.StatusOK || got != want {
			t.Errorf("%d, got %s", status, got)
		}
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	s := newServer()
	if got := s.want(t, http.StatusOK, http.MethodGet, "/v1/backup", ""); got != `"a backup"` {
		t.Errorf("got %s", got)
	}
	s.err = crier.Errorf(crier.CodeBadParameter, "this node keeps 1 of 2 partitions")
	s.want(t, http.StatusBadRequest, http.MethodGet, "/v1/backup", "")
	s.err = errors.New("the disk is broken")
	s.want(t, http.StatusInternalServerError, http.MethodGet, "/v1/backup", "")
}

func TestTasksDevicesAndExplanations(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.want(t, http.StatusCreated, http.MethodPost, "/v1/apps", `{"id":7}`)
	task := string(crier.NewTaskID(7, time.Now(), 1, 1))
	if body := s.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/"+task, ""); !strings.Contains(body, `"accepted":2`) || !strings.Contains(body, `"waiting":3`) {
		t.Errorf("the task: %s", body)
	}
	if body := s.want(t, http.StatusOK, http.MethodGet, "/v1/tasks/"+task+"/users/a", ""); !strings.Contains(body, `"matched":true`) || !strings.Contains(body, `tag \"vip\"`) {
		t.Errorf("the explanation: %s", body)
	}
	s.want(t, http.StatusNotFound, http.MethodGet, "/v1/tasks/x/users/a", "")
	s.want(t, http.StatusBadRequest, http.MethodGet, "/v1/tasks/"+task+"/users/"+strings.Repeat("a", 33), "")

	const devices = "/v1/apps/7/users/a/devices"
	secret := strings.Repeat("0123456789abcdef", 4)
	body := s.want(t, http.StatusOK, http.MethodPost, devices, `{"vendor":"apns","token":"`+secret+`","platform":"iPhone","badge_base":2}`)
	body += s.want(t, http.StatusOK, http.MethodGet, devices, "")
	if strings.Contains(body, secret) || strings.Count(body, `"89abcdef"`) != 2 || strings.Count(body, `"badge_base":2`) != 2 {
		t.Errorf("registered: %s", body)
	}
	for _, bad := range []string{
		`{"vendor":"pigeon","token":"a","platform":"iPhone"}`, `{"vendor":"apns","platform":"iPhone"}`, `{"vendor":"apns","token":"a","platform":"Newton"}`,
		`{"vendor":"apns","token":"a","platform":"iPhone","badge_base":-1}`, `{"vendor":"apns","token":"a","platform":"iPhone","registered":"2026-01-01T00:00:00Z"}`,
		`{"vendor":"apns","token":"a","platform":"iPhone","last_seen":"2026-01-01T00:00:00Z"}`,
		`{"vendor":1}`, `{"unknown":1}`, `[]`,
	} {
		s.want(t, http.StatusBadRequest, http.MethodPost, devices, bad)
	}
	s.want(t, http.StatusBadRequest, http.MethodDelete, devices, "")
	s.want(t, http.StatusOK, http.MethodDelete, devices+"?vendor=apns&token="+secret, "")
	s.want(t, http.StatusNotFound, http.MethodDelete, "/v1/apps/7/users/nobody/devices?vendor=apns&token=x", "")
	s.want(t, http.StatusNotFound, http.MethodGet, "/v1/apps/7/users/nobody/devices", "")
	s.want(t, http.StatusNotFound, http.MethodGet, "/v1/apps/8/users/a/devices", "")
}
