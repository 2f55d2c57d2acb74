package operator

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/crier-im/crier"
)

var statusTexts = map[crier.Status]string{crier.StatusWaiting: "waiting", crier.StatusRunning: "running", crier.StatusDone: "done"}

// task tells how far a push is, and what became of whom it matched.
func (a *API) task(c *gin.Context) {
	task, app, ok := taskOf(c)
	if !ok {
		return
	}
	reports, err := a.service.Reports(c.Request.Context(), app, []crier.TaskID{task})
	if err != nil {
		fail(c, err)
		return
	}
	r := reports[0]
	body := gin.H{"task": r.Task, "app": app, "status": statusTexts[r.Status], "total": r.Total, "finished": r.Finished}
	if !r.Started.IsZero() {
		body["started"] = r.Started
	}
	funnel, err := a.service.Funnel(c.Request.Context(), app, task)
	switch {
	case err == nil:
		body["funnel"] = funnel
	case !errors.Is(err, crier.CodeUnknownTask): // else it has not begun, or is too old
		fail(c, err)
		return
	}
	c.JSON(http.StatusOK, body)
}

// taskOf returns the task of the path, or answers that there is none.
func taskOf(c *gin.Context) (crier.TaskID, crier.AppID, bool) {
	task := crier.TaskID(c.Param("id"))
	app, _, ok := task.Parse()
	if !ok {
		fail(c, crier.Errorf(crier.CodeUnknownTask, "TaskId %s is unknown", crier.Quote(string(task))))
	}
	return task, app, ok
}

// explain tells what became of a push for one account.
func (a *API) explain(c *gin.Context) {
	task, app, ok := taskOf(c)
	if !ok {
		return
	}
	user, err := crier.ParseUserID(c.Param("user"))
	if err != nil {
		fail(c, crier.Errorf(crier.CodeBadParameter, "%s", crier.AsError(err).Info))
		return
	}
	e, err := a.service.Explain(c.Request.Context(), app, task, user)
	if err != nil {
		fail(c, err)
		return
	}
	c.JSON(http.StatusOK, e)
}
