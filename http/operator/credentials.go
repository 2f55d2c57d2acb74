package operator

import (
	"encoding/base64"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/crier-im/crier"
)

// credentialsMost bounds the credentials of an app, which every node keeps in memory.
const credentialsMost = 50

// Credentials is what the operator's API needs to take credentials for vendors in.
type Credentials interface {
	// CheckCredential checks a credential as it is given, and returns what may be shown of it. CodeBadParameter names what is
	// wrong and holds nothing of the secret.
	CheckCredential(c crier.Credential) (map[string]string, error)
	// Seal returns the credential as it may be stored: with its Secret sealed, and what is secret of its Params too.
	Seal(app crier.AppID, c crier.Credential) (crier.Credential, error)
}

// upload is a credential as it is given. Its secret is the content of the file: as base64, or as it is where that is
// text (PEM, JSON, a VAPID key), which is no base64.
type upload struct {
	Vendor  crier.Vendor      `json:"vendor"`
	Target  string            `json:"target"`
	Sandbox bool              `json:"sandbox"`
	Form    string            `json:"form"`
	Params  map[string]string `json:"params"`
	Secret  string            `json:"secret"`
}

func (u *upload) credential() crier.Credential {
	secret, err := base64.StdEncoding.DecodeString(u.Secret)
	if err != nil {
		secret = []byte(u.Secret)
	}
	return crier.Credential{Vendor: u.Vendor, Target: u.Target, Sandbox: u.Sandbox, Form: u.Form, Params: u.Params, Secret: secret}
}

// shownCredentials returns an app's credentials as they are shown: never with a secret, be it sealed.
func shownCredentials(app *crier.App) []crier.Credential {
	shown := slices.Clone(app.Credentials)
	for i := range shown {
		shown[i].Secret = nil
	}
	return shown
}

// sameCredentials reports whether credentials that a change of an app gives are those that are shown of it.
func sameCredentials(given []crier.Credential, app *crier.App) bool {
	return slices.EqualFunc(given, shownCredentials(app), func(a, b crier.Credential) bool {
		same := a.Added.Equal(b.Added)
		a.Added, b.Added = time.Time{}, time.Time{}
		return same && reflect.DeepEqual(a, b)
	})
}

func (a *API) listCredentials(c *gin.Context) {
	if app := a.app(c); app != nil {
		showCredentials(c, app)
	}
}

// showCredentials answers the credentials of an app, and the tag that If-Match takes.
func showCredentials(c *gin.Context, app *crier.App) {
	c.Header("ETag", entityTag(app))
	c.JSON(http.StatusOK, gin.H{"credentials": append([]crier.Credential{}, shownCredentials(app)...)})
}

// putCredential adds a credential, or replaces the one with its vendor, target and environment.
func (a *API) putCredential(c *gin.Context) {
	var given upload
	body, err := read(c)
	if err == nil {
		err = decode(body, &given)
	}
	var shown map[string]string
	credential := given.credential()
	if err == nil {
		shown, err = a.credentials.CheckCredential(credential)
	}
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
	app.Credentials = slices.Clone(old.Credentials)
	credential.Added = a.now().UTC().Truncate(time.Millisecond)
	at := old.Credential(credential.Vendor, credential.Target, credential.Sandbox)
	switch {
	case at >= 0: // a sender is made anew for a later one only, whatever the clocks of nodes say
		if least := old.Credentials[at].Added.Add(time.Millisecond); credential.Added.Before(least) {
			credential.Added = least
		}
	case len(old.Credentials) >= credentialsMost:
		fail(c, crier.Errorf(crier.CodeBadParameter, "an app can have %d credentials: remove one", credentialsMost))
		return
	}
	sealed, err := a.credentials.Seal(app.ID, credential)
	if err == nil {
		sealed.Params = shown
		if at >= 0 {
			app.Credentials[at] = sealed
		} else {
			app.Credentials = append(app.Credentials, sealed)
		}
		err = a.service.UpdateApp(c.Request.Context(), &app)
	}
	if err != nil {
		fail(c, err)
		return
	}
	sealed.Secret = nil
	c.Header("ETag", entityTag(&app))
	c.JSON(http.StatusOK, sealed)
}

// deleteCredential removes the credential that the query names, and answers those that are left.
func (a *API) deleteCredential(c *gin.Context) {
	sandbox := c.Query("sandbox")
	if sandbox != "" && sandbox != "true" && sandbox != "false" {
		fail(c, crier.Errorf(crier.CodeBadParameter, "sandbox must be true or false"))
		return
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	old := a.change(c)
	if old == nil {
		return
	}
	at := old.Credential(crier.Vendor(c.Query("vendor")), c.Query("target"), sandbox == "true")
	if at < 0 {
		c.JSON(http.StatusNotFound, gin.H{"error": "the app has no credential for this vendor, target and environment"})
		return
	}
	app := *old
	app.Credentials = slices.Delete(slices.Clone(old.Credentials), at, at+1)
	if err := a.service.UpdateApp(c.Request.Context(), &app); err != nil {
		fail(c, err)
		return
	}
	showCredentials(c, &app)
}
