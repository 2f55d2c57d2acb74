package vendors

import (
	"github.com/crier-im/crier"
	"github.com/crier-im/crier/vendors/internal/failure"
)

const (
	reasonNoCredential  = "NoCredential"
	reasonBadCredential = "BadCredential"
	reasonPaused        = "Paused"
	reasonBusy          = "Busy"
	reasonClosed        = "Closed"
)

// outcomes are those of the pool itself.
var outcomes = failure.Table{
	failure.Row(reasonNoCredential, crier.OutcomeConfiguration, "The app has no credential for the device's vendor, target and environment: add one."),
	failure.Row(reasonBadCredential, crier.OutcomeConfiguration, "The credential can't be used: upload it again."),
	failure.Row(reasonPaused, crier.OutcomeConfiguration, "The vendor has refused device after device for a fault of the credential, so sending is paused; it is tried again."),
	failure.Row(reasonBusy, crier.OutcomeUnavailable, "Too many notifications were under way on this node: see vendors.concurrency; it is tried again."),
	failure.Row(reasonClosed, crier.OutcomeUnavailable, "The node stops; another, or the next start, tries again."),
}

// ofDevice are the refusals by which a vendor may mean one device, registered for the other environment, another app, project or key,
// or all of them, where it is the credential that does not fit.
var ofDevice = map[crier.Vendor][]string{
	crier.APNs:    {badDeviceToken, "DeviceTokenNotForTopic"},
	crier.FCM:     {"SENDER_ID_MISMATCH"},
	crier.WebPush: {"Forbidden"},
}

// wrongEnvironment is what BadDeviceToken means where it can't be believed of each device.
const wrongEnvironment = "APNs takes no token, which means that the environment is wrong rather than that the devices are gone: compare sandbox of the " +
	"credential with what the app reports for its tokens. No device is removed."
