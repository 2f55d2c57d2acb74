package operator

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/crier-im/crier"
)

// device is a registration as the API shows and takes it.
type device struct {
	Vendor     crier.Vendor   `json:"vendor"`
	Token      string         `json:"token"`
	Target     string         `json:"target,omitempty"`
	Sandbox    bool           `json:"sandbox,omitempty"`
	Platform   crier.Platform `json:"platform"`
	Language   string         `json:"language,omitempty"`
	BadgeBase  int            `json:"badge_base,omitempty"`
	Registered time.Time      `json:"registered,omitzero"`
	LastSeen   time.Time      `json:"last_seen,omitzero"`
}

// account returns the app and the account's name of the path, or answers what is wrong with them.
func (a *API) account(c *gin.Context) (*crier.App, crier.UserID, bool) {
	app := a.app(c)
	if app == nil {
		return nil, "", false
	}
	user, err := crier.ParseUserID(c.Param("user"))
	if err != nil {
		fail(c, crier.Errorf(crier.CodeBadParameter, "%s", crier.AsError(err).Info))
	}
	return app, user, err == nil
}

// devices lists where vendors reach an account. Tokens are shown by their ends only.
func (a *API) devices(c *gin.Context) {
	app, user, ok := a.account(c)
	if !ok {
		return
	}
	accounts, err := a.service.Accounts(c.Request.Context(), app.ID, []crier.UserID{user})
	if err == nil && accounts[0] == nil {
		err = crier.Errorf(crier.CodeUnknownAccount, "account %s does not exist", crier.Quote(string(user)))
	}
	if err != nil {
		fail(c, err)
		return
	}
	all := make([]device, len(accounts[0].Devices))
	for i := range all {
		d := accounts[0].Devices[i]
		d.Token = d.ShortToken()
		all[i] = device(d)
	}
	c.JSON(http.StatusOK, gin.H{"devices": all})
}

// registerDevice registers a device that did not do so over the gateway.
func (a *API) registerDevice(c *gin.Context) {
	app, user, ok := a.account(c)
	if !ok {
		return
	}
	var d device
	body, err := read(c)
	if err == nil {
		err = decode(body, &d)
	}
	if err == nil && (d.BadgeBase < 0 || !d.Registered.IsZero() || !d.LastSeen.IsZero()) {
		err = crier.Errorf(crier.CodeBadParameter, "badge_base must be 0 or more, and registered and last_seen are not for you to say")
	}
	var kept crier.Device
	if err == nil {
		kept, err = a.service.RegisterDevice(c.Request.Context(), app, user, crier.Device(d))
	}
	if err != nil {
		fail(c, err)
		return
	}
	kept.Token = kept.ShortToken()
	c.JSON(http.StatusOK, device(kept))
}

// removeDevice removes the device with the vendor and token of the query.
func (a *API) removeDevice(c *gin.Context) {
	app, user, ok := a.account(c)
	if !ok {
		return
	}
	vendor := crier.Vendor(c.Query("vendor"))
	if !vendor.Valid() || c.Query("token") == "" {
		fail(c, crier.Errorf(crier.CodeBadParameter, "vendor and token name the device; vendor is apns, fcm or webpush"))
		return
	}
	if err := a.service.RemoveDevice(c.Request.Context(), app.ID, user, vendor, c.Query("token")); err != nil {
		fail(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{})
}
