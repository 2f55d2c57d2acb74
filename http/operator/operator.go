// Package operator is the API of whoever runs Crier: making and changing apps
// and their credentials, and looking at tasks. It is opened by the operator's token, not by a UserSig.
package operator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/crier-im/crier"
)

const (
	// bodyMost bounds a request, in bytes.
	bodyMost = 64 << 10
	// graceDefault and graceMost are how long the old key of a rotation still works.
	graceDefault = 24 * time.Hour
	graceMost    = 30 * 24 * time.Hour
)

// Service is what the operator's API needs of the rest of Crier.
type Service interface {
	// App returns an app, nil where there is none.
	App(id crier.AppID) *crier.App
	// Apps returns every app by id.
	Apps() []*crier.App
	// CreateApp adds an app; CodeBadParameter names what is wrong.
	CreateApp(ctx context.Context, app *crier.App) error
	// UpdateApp replaces everything of an app but its attribute names.
	UpdateApp(ctx context.Context, app *crier.App) error
	// Reports returns the progress of campaigns; CodeUnknownTask names an unknown one.
	Reports(ctx context.Context, app crier.AppID, tasks []crier.TaskID) ([]crier.Report, error)
	// Funnel returns what became of the accounts that a campaign matched; CodeUnknownTask where that is not known.
	Funnel(ctx context.Context, app crier.AppID, task crier.TaskID) (*crier.Funnel, error)
	// Explain returns what became of a campaign for one account; CodeUnknownTask.
	Explain(ctx context.Context, app crier.AppID, task crier.TaskID, user crier.UserID) (*crier.Explanation, error)
	// Accounts returns the accounts asked for, nil in the place of one that does not exist.
	Accounts(ctx context.Context, app crier.AppID, users []crier.UserID) ([]*crier.Account, error)
	// RegisterDevice registers a device for an account, and returns it as it is kept; CodeBadParameter, CodeUnknownAccount.
	RegisterDevice(ctx context.Context, app *crier.App, user crier.UserID, d crier.Device) (crier.Device, error)
	// RemoveDevice removes one; CodeUnknownAccount. One that is not there is fine.
	RemoveDevice(ctx context.Context, app crier.AppID, user crier.UserID, vendor crier.Vendor, token string) error
}

// API answers under /v1. Safe for concurrent use.
type API struct {
	service     Service
	credentials Credentials
	backups     Backups
	cluster     Cluster
	token       [sha256.Size]byte
	now         func() time.Time
	// changing is held from the reading of an app to the end of its change: UpdateApp replaces it as a
	// whole, and of two changes at the same time the later would undo the earlier. It orders the changes that
	// come to this node.
	changing sync.Mutex
}

// New returns an API that the token opens. An empty token opens nothing.
func New(s Service, credentials Credentials, backups Backups, cluster Cluster, token string) *API {
	a := &API{service: s, credentials: credentials, backups: backups, cluster: cluster, token: sha256.Sum256([]byte(token)), now: time.Now}
	if token == "" {
		a.token = [sha256.Size]byte{}
	}
	return a
}

// RegisterCluster adds the routes that answer before the node is ready: what helps where it never would be.
func (a *API) RegisterCluster(r gin.IRouter) {
	g := r.Group("/v1", a.authorize)
	g.POST("/restore", a.restore)
	g.GET("/cluster", a.clusterStatus)
	g.POST("/cluster/rebalance", a.rebalance)
	g.POST("/cluster/nodes/:node/drain", a.drainNode)
	g.DELETE("/cluster/nodes/:node/drain", a.cancelDrain)
	g.DELETE("/cluster/nodes/:node", a.removeNode)
	g.GET("/cluster/recovery", a.planRecovery)
	g.POST("/cluster/recovery", a.recoverCluster)
}

// Register adds the other routes.
func (a *API) Register(r gin.IRouter) {
	g := r.Group("/v1", a.authorize)
	g.GET("/apps", a.list)
	g.POST("/apps", a.create)
	g.GET("/apps/:id", a.get)
	g.PATCH("/apps/:id", a.update)
	g.POST("/apps/:id/rotate-key", a.rotate)
	g.GET("/apps/:id/credentials", a.listCredentials)
	g.PUT("/apps/:id/credentials", a.putCredential)
	g.DELETE("/apps/:id/credentials", a.deleteCredential)
	g.GET("/apps/:id/users/:user/devices", a.devices)
	g.POST("/apps/:id/users/:user/devices", a.registerDevice)
	g.DELETE("/apps/:id/users/:user/devices", a.removeDevice)
	g.GET("/backup", a.backup)
	g.GET("/tasks/:id", a.task)
	g.GET("/tasks/:id/users/:user", a.explain)
}

// authorize compares digests, so that the time taken tells nothing of the token.
func (a *API) authorize(c *gin.Context) {
	token, ok := strings.CutPrefix(c.GetHeader("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(token))
	if !ok || token == "" || subtle.ConstantTimeCompare(sum[:], a.token[:]) != 1 {
		c.Header("WWW-Authenticate", "Bearer")
		c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"error": "the operator's token is missing or wrong"})
	}
}

// fail answers an error with the HTTP status that fits its code.
func fail(c *gin.Context, err error) {
	e := crier.AsError(err)
	status := http.StatusInternalServerError
	switch e.Code {
	case crier.CodeBadParameter, crier.CodeBadJSON:
		status = http.StatusBadRequest
	case crier.CodeUnknownApp, crier.CodeUnknownTask, crier.CodeUnknownAccount:
		status = http.StatusNotFound
	case crier.CodeTimeout:
		status = http.StatusServiceUnavailable
	}
	c.JSON(status, gin.H{"code": int(e.Code), "error": e.Info})
}

// read reads the body of a request. It is called before changing is locked: a slow sender holds up nobody.
func read(c *gin.Context) ([]byte, error) { return readUpTo(c, bodyMost) }

func readUpTo(c *gin.Context, most int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, most))
	if err != nil {
		return nil, crier.Errorf(crier.CodeBadParameter, "the body is over %d bytes, or broke off", most)
	}
	return body, nil
}

// decode reads a body over v: fields not given stay, unknown ones are refused by name.
func decode(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		return crier.Errorf(crier.CodeBadParameter, "the body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

func (a *API) list(c *gin.Context) {
	apps := []*document{}
	for _, app := range a.service.Apps() {
		apps = append(apps, withoutKeys(app))
	}
	c.JSON(http.StatusOK, gin.H{"apps": apps})
}

// create adds an app. What is not given has its default: a new key, push
// switched on, the admin "administrator", the default limits.
func (a *API) create(c *gin.Context) {
	app := &crier.App{
		Key: crier.NewKey(), PushEnabled: true, Admins: []crier.UserID{"administrator"},
		Limits: crier.DefaultLimits(), CreatedAt: a.now().UTC().Truncate(time.Millisecond),
	}
	body, err := read(c)
	if err == nil {
		err = decodeApp(body, app)
	}
	if err == nil {
		err = check(app)
	}
	if err == nil {
		err = a.service.CreateApp(c.Request.Context(), app)
	}
	if err != nil {
		fail(c, err)
		return
	}
	c.JSON(http.StatusCreated, newDocument(app))
}

// check refuses what Validate of the vocabulary leaves to whoever takes the app in.
func check(app *crier.App) error {
	if err := app.Validate(); err != nil {
		return err
	}
	if len(app.Key) < 16 {
		return crier.Errorf(crier.CodeBadParameter, "key must have at least 16 characters")
	}
	named := make(map[int]string)
	for slot, name := range app.AttrNames {
		if name != "" {
			named[slot] = name
		}
	}
	if _, err := (crier.AttrNames{}).With(named); err != nil {
		return crier.Errorf(crier.CodeBadParameter, "attr_names: %s", crier.AsError(err).Info)
	}
	text, err := json.Marshal(app.Limits)
	if err != nil {
		return err
	}
	var limits map[string]float64
	if err := json.Unmarshal(text, &limits); err != nil {
		return err
	}
	for name, v := range limits {
		if v < 0 {
			return crier.Errorf(crier.CodeBadParameter, "limits.%s must be 0 (unlimited) or more", name)
		}
	}
	return nil
}

// app returns the app of the path, or answers that there is none.
func (a *API) app(c *gin.Context) *crier.App {
	id, err := crier.ParseAppID(c.Param("id"))
	app := a.service.App(id)
	if err != nil || app == nil {
		fail(c, crier.Errorf(crier.CodeUnknownApp, "there is no app %s", crier.Quote(c.Param("id"))))
		return nil
	}
	return app
}

func (a *API) get(c *gin.Context) {
	if app := a.app(c); app != nil {
		show(c, app)
	}
}

// show answers an app without its keys, and the tag that If-Match takes.
func show(c *gin.Context, app *crier.App) {
	c.Header("ETag", entityTag(app))
	c.JSON(http.StatusOK, withoutKeys(app))
}

// change returns the app of the path for a change, or answers why there can be none. The
// caller holds changing.
func (a *API) change(c *gin.Context) *crier.App {
	app := a.app(c)
	if app == nil {
		return nil
	}
	if want := c.GetHeader("If-Match"); want != "" && want != "*" && want != entityTag(app) {
		c.JSON(http.StatusPreconditionFailed, gin.H{"error": "the app has changed since it was read: read it again"})
		return nil
	}
	return app
}

// update changes the fields that are given. The id, the keys, the attribute
// names and the time of creation have their own ways, or none.
func (a *API) update(c *gin.Context) {
	body, err := read(c)
	if err != nil {
		fail(c, err)
		return
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	old := a.change(c)
	if old == nil {
		return
	}
	app := *old
	app.Admins = append([]crier.UserID(nil), old.Admins...)
	err = decodeApp(body, &app)
	if err == nil && (app.ID != old.ID || app.Key != old.Key || app.OldKey != old.OldKey ||
		!app.OldKeyUntil.Equal(old.OldKeyUntil) || app.AttrNames != old.AttrNames || !app.CreatedAt.Equal(old.CreatedAt)) {
		err = crier.Errorf(crier.CodeBadParameter, "id, key, old_key, old_key_until, attr_names and created_at can't be changed here")
	}
	if err == nil {
		err = check(&app)
	}
	if err == nil {
		err = a.service.UpdateApp(c.Request.Context(), &app)
	}
	if err != nil {
		fail(c, err)
		return
	}
	show(c, &app)
}

// rotate makes a new key. The old one still checks UserSigs for a grace, so that
// back ends can change over.
func (a *API) rotate(c *gin.Context) {
	grace, err := readGrace(c)
	if err != nil {
		fail(c, err)
		return
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	old := a.change(c)
	if old == nil {
		return
	}
	app := *old
	app.OldKey, app.OldKeyUntil = old.Key, a.now().Add(grace).UTC().Truncate(time.Second)
	app.Key = crier.NewKey()
	if err := a.service.UpdateApp(c.Request.Context(), &app); err != nil {
		fail(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"id": app.ID, "key": app.Key, "old_key_until": app.OldKeyUntil})
}

// readGrace reads how long the old key of a rotation still works.
func readGrace(c *gin.Context) (time.Duration, error) {
	req := struct {
		Grace *int64 `json:"grace_seconds"`
	}{}
	body, err := read(c)
	if err == nil {
		err = decode(body, &req)
	}
	most := int64(graceMost / time.Second)
	switch {
	case err != nil:
		return 0, err
	case req.Grace == nil:
		return graceDefault, nil
	case *req.Grace < 0 || *req.Grace > most:
		return 0, crier.Errorf(crier.CodeBadParameter, "grace_seconds must be 0..%d", most)
	}
	return time.Duration(*req.Grace) * time.Second, nil
}
