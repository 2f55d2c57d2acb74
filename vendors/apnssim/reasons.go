package apnssim

// statuses are the documented reasons and the status of each (Apple, "Handling
// notification responses from APNs").
var statuses = map[string]int{
	"BadCollapseId": 400, "BadDeviceToken": 400, "BadExpirationDate": 400, "BadMessageId": 400, "BadPriority": 400, "BadTopic": 400,
	"DeviceTokenNotForTopic": 400, "DuplicateHeaders": 400, "IdleTimeout": 400, "InvalidPushType": 400, "MissingDeviceToken": 400,
	"MissingTopic": 400, "PayloadEmpty": 400, "TopicDisallowed": 400,
	"BadCertificate": 403, "BadCertificateEnvironment": 403, "BadEnvironmentKeyIdInToken": 403, "ExpiredProviderToken": 403, "Forbidden": 403,
	"InvalidProviderToken": 403, "MissingProviderToken": 403, "UnrelatedKeyIdInToken": 403,
	"BadPath": 404, "MethodNotAllowed": 405,
	"ExpiredToken": 410, "Unregistered": 410,
	"PayloadTooLarge":             413,
	"TooManyProviderTokenUpdates": 429, "TooManyRequests": 429,
	"InternalServerError": 500, "ServiceUnavailable": 503, "Shutdown": 503,
}

// Reasons returns the documented reasons and the status of each.
func Reasons() map[string]int {
	all := make(map[string]int, len(statuses))
	for reason, status := range statuses {
		all[reason] = status
	}
	return all
}
