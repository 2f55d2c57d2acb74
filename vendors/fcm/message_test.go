package fcm

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/crier-im/crier"
)

// What compose makes is JSON and UTF-8 and within the limit, whatever a sender writes.
func FuzzCompose(f *testing.F) {
	f.Add("title", "text", "ext", `{"AndroidInfo":{"Sound":"ding"}}`, "en", "1_2_3_4")
	f.Add("题", strings.Repeat("长\x00<", 2000), "", `{"MultiLanguageContent":[{"Language":"en","Desc":"\ud800"}]}`, "en-US", "")
	f.Add(strings.Repeat("t\u2028", 2000), strings.Repeat("👩\u200d💻", 500), "\xff", "[]", "", "\xff")
	f.Fuzz(func(t *testing.T, title, desc, ext, raw, language, task string) {
		p := push(device)
		p.Task, p.Device.Language = crier.TaskID(task), language
		p.Message = &crier.Message{Offline: crier.OfflinePush{Title: title, Desc: desc, Ext: ext, Raw: json.RawMessage(raw)}}
		body, reason := compose(p, time.Unix(0, 0))
		if reason != "" {
			if !failures.Has(reason) {
				t.Errorf("reason %q", reason)
			}
			return
		}
		var got struct{ Message map[string]any }
		if err := json.Unmarshal(body, &got); err != nil || !utf8.Valid(body) {
			t.Fatalf("%v: %q", err, body)
		}
		if got.Message["token"] != device {
			t.Errorf("%q", body)
		}
		delete(got.Message, "token")
		if most := messageMost + len(`{"message":,"token":""}`) + len(device); len(body) > most {
			t.Errorf("%d bytes", len(body))
		}
	})
}

func TestDocumentedCodesAreInTheTable(t *testing.T) {
	t.Parallel()
	for _, code := range []string{
		"UNSPECIFIED_ERROR", "INVALID_ARGUMENT", "UNREGISTERED", "SENDER_ID_MISMATCH", "QUOTA_EXCEEDED", "UNAVAILABLE", "INTERNAL", "THIRD_PARTY_AUTH_ERROR",
	} {
		if !failures.Has(code) {
			t.Errorf("%s is not in the table", code)
		}
	}
	for status, reason := range byStatus {
		if !failures.Has(reason) {
			t.Errorf("%d: %s is not in the table", status, reason)
		}
	}
	seen := []string{}
	for _, f := range failures {
		if slices.Contains(seen, f.Reason) || !strings.HasSuffix(f.Info, ".") || strings.ContainsAny(f.Info, "|\n") {
			t.Errorf("%+v", f)
		}
		seen = append(seen, f.Reason)
	}
}

// The table of the document is that of the code.
func TestDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/vendors-fcm.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), failures.Markdown()) {
		t.Errorf("docs/vendors-fcm.md must have\n%s", failures.Markdown())
	}
}
