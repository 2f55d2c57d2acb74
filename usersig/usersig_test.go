package usersig_test

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/usersig"
)

const (
	app  crier.AppID  = 1400000001
	user crier.UserID = "admin"
	// vector is a published ticket: zlib level 0, made at 1700000000 for a day.
	vector = "eAEBpgBZ-3siVExTLnZlciI6IjIuMCIsIlRMUy5pZGVudGlmaWVyIjoiYWRtaW4iLCJUTFMuc2RrYXBwaWQiOjE0MDAwMDAwMDEsIlRMUy5leHBpcmUiOjg2NDAwLCJUTFMudGltZSI6MTcwMDAwMDAwMCwiVExTLnNpZyI6IjBJd212M2RKWXV3ZWcyZmptWjVLaHVicWh6KzAvUFFadGV0cHpxYTErbHM9In20ijGp"
)

var (
	key    = strings.Repeat("0123456789abcdef", 4)
	signed = time.Unix(1700000000, 0)
)

// wrap packs JSON text as a UserSig.
func wrap(t testing.TB, level int, text string) string {
	t.Helper()
	var out bytes.Buffer
	w, err := zlib.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("+", "*", "/", "-", "=", "_").Replace(base64.StdEncoding.EncodeToString(out.Bytes()))
}

func unwrap(t *testing.T, sig string) string {
	t.Helper()
	packed, err := base64.StdEncoding.DecodeString(strings.NewReplacer("*", "+", "-", "/", "_", "=").Replace(sig))
	if err != nil {
		t.Fatal(err)
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPublishedVector(t *testing.T) {
	t.Parallel()
	ticket, err := usersig.Parse(vector)
	if err != nil {
		t.Fatal(err)
	}
	if err := ticket.Check(app, user, []string{key}, signed.Add(time.Hour)); err != nil {
		t.Errorf("Check: %v", err)
	}
	if !ticket.Time.Equal(signed) || ticket.Expire != 24*time.Hour {
		t.Errorf("time %v, expire %v", ticket.Time, ticket.Expire)
	}
}

func TestSignMakesThePublishedSignatures(t *testing.T) {
	t.Parallel()
	buf := append([]byte("\x00\x00\x05admin"), make([]byte, 20)...)
	for _, c := range []struct {
		name string
		buf  []byte
		mac  string
	}{
		{"without userbuf", nil, "0Iwmv3dJYuweg2fjmZ5Khubqhz+0/PQZtetpzqa1+ls="},
		{"with userbuf", buf, "2D8+ltBOTxnHKBYjIKGp/M2gdHTAn/SvVq3ZqekD2M0="},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sig := usersig.Sign(key, app, user, signed, 24*time.Hour, c.buf)
			if text := unwrap(t, sig); !strings.Contains(text, `"TLS.sig":"`+c.mac+`"`) {
				t.Errorf("signature %s is not in %s", c.mac, text)
			}
			ticket, err := usersig.Parse(sig)
			if err != nil {
				t.Fatal(err)
			}
			if err := ticket.Check(app, user, []string{key}, signed); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(ticket.UserBuf, c.buf) {
				t.Errorf("userbuf %x, want %x", ticket.UserBuf, c.buf)
			}
		})
	}
}

func TestEveryLevelAndLiberalForms(t *testing.T) {
	t.Parallel()
	text := unwrap(t, vector)
	forms := map[string]string{
		"as published":       text,
		"numbers as strings": strings.NewReplacer("1400000001", `"1400000001"`, "86400", `"86400"`, "1700000000", `"1700000000"`).Replace(text),
		"unknown keys":       strings.Replace(text, "{", `{"extra":[1,2],`, 1),
	}
	for name, form := range forms {
		for level := -2; level <= 9; level++ {
			ticket, err := usersig.Parse(wrap(t, level, form))
			if err != nil {
				t.Errorf("%s, level %d: %v", name, level, err)
				continue
			}
			if err := ticket.Check(app, user, []string{key}, signed); err != nil {
				t.Errorf("%s, level %d: %v", name, level, err)
			}
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	end := signed.Add(24 * time.Hour)
	for _, c := range []struct {
		name string
		app  crier.AppID
		user crier.UserID
		keys []string
		now  time.Time
		want error
	}{
		{"at the last second", app, user, []string{key}, end, nil},
		{"second key", app, user, []string{"other", key}, end, nil},
		{"one second over", app, user, []string{key}, end.Add(time.Second), crier.CodeSigExpired},
		{"other app", app + 1, user, []string{key}, signed, crier.CodeSigSDKAppID},
		{"other user", app, "Admin", []string{key}, signed, crier.CodeSigIdentifier},
		{"other key", app, user, []string{key + "x"}, signed, crier.CodeSigWrong},
		{"no key", app, user, nil, signed, crier.CodeAppWithoutKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ticket, err := usersig.Parse(vector)
			if err != nil {
				t.Fatal(err)
			}
			if err := ticket.Check(c.app, c.user, c.keys, c.now); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	text := unwrap(t, vector)
	for name, c := range map[string]struct {
		sig  string
		want crier.Code
	}{
		"empty":               {"", crier.CodeSigMissing},
		"not base64":          {"%%%", crier.CodeSigMalformed},
		"not zlib":            {"aGVsbG8_", crier.CodeSigMalformed},
		"truncated":           {vector[:len(vector)-20], crier.CodeSigMalformed},
		"over the text limit": {strings.Repeat("A", usersig.MaxText+1), crier.CodeSigMalformed},
		"not JSON":            {wrap(t, 6, "hello"), crier.CodeSigMalformed},
		"JSON null":           {wrap(t, 6, "null"), crier.CodeSigMalformed},
		"other version":       {wrap(t, 6, strings.Replace(text, `"2.0"`, `"1.0"`, 1)), crier.CodeSigMalformed},
		"no identifier":       {wrap(t, 6, strings.Replace(text, "TLS.identifier", "x", 1)), crier.CodeSigMalformed},
		"identifier number":   {wrap(t, 6, strings.Replace(text, `"admin"`, `5`, 1)), crier.CodeSigMalformed},
		"negative expire":     {wrap(t, 6, strings.Replace(text, "86400", "-1", 1)), crier.CodeSigMalformed},
		"fraction of time":    {wrap(t, 6, strings.Replace(text, "1700000000", "1.5", 1)), crier.CodeSigMalformed},
		"overflowing expire":  {wrap(t, 6, strings.Replace(text, "86400", "9223372036854775807", 1)), crier.CodeSigMalformed},
		"short signature":     {wrap(t, 6, strings.Replace(text, "0Iwmv3dJ", "", 1)), crier.CodeSigMalformed},
		"userbuf not base64":  {wrap(t, 6, strings.Replace(text, "{", `{"TLS.userbuf":"*",`, 1)), crier.CodeSigMalformed},
		"inflates over limit": {wrap(t, 9, text+strings.Repeat(" ", usersig.MaxInflated)), crier.CodeSigMalformed},
	} {
		if _, err := usersig.Parse(c.sig); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

// Readers are used again, by others at the same time, and after tickets that broke off.
func TestParseAtTheSameTime(t *testing.T) {
	t.Parallel()
	bad := []string{"aGVsbG8_", vector[:len(vector)-20], wrap(t, 9, strings.Repeat(" ", 2*usersig.MaxInflated)), wrap(t, 6, "hello")}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			name := crier.UserID(fmt.Sprint("user", g))
			sig := usersig.Sign(key, app, name, signed, time.Hour, nil)
			for i := range 200 {
				if _, err := usersig.Parse(bad[i%len(bad)]); !errors.Is(err, crier.CodeSigMalformed) {
					t.Errorf("a bad one: %v", err)
				}
				if ticket, err := usersig.Parse(sig); err != nil || ticket.User != name {
					t.Errorf("%s became %+v, %v", name, ticket, err)
				}
			}
		})
	}
	wg.Wait()
}

// A ticket of 8 KB inflates to at most MaxInflated, however much is in it: the
// bomb is the beginning of a gigabyte of zeros, as much as a text of MaxText bytes can hold.
func TestBombIsNotInflated(t *testing.T) {
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	zeros := make([]byte, 1<<20)
	for out.Len() < usersig.MaxText {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	sig := base64.StdEncoding.EncodeToString(out.Bytes()[:usersig.MaxText/4*3])
	allocs := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if _, err := usersig.Parse(sig); !errors.Is(err, crier.CodeSigMalformed) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if allocs > 1<<20 {
		t.Errorf("refusing the bomb allocated %d bytes", allocs)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(vector)
	f.Add(usersig.Sign(key, app, "a\nb", signed, time.Hour, []byte("buf")))
	f.Add("")
	f.Fuzz(func(t *testing.T, sig string) {
		ticket, err := usersig.Parse(sig)
		if err != nil {
			if !errors.Is(err, crier.CodeSigMalformed) && !errors.Is(err, crier.CodeSigMissing) {
				t.Errorf("unexpected error %v", err)
			}
			return
		}
		if err := ticket.Check(ticket.App, ticket.User, []string{"never used"}, ticket.Time); err == nil {
			t.Errorf("accepted a ticket that nobody signed: %+v", ticket)
		}
	})
}

func ExampleSign() {
	sig := usersig.Sign("secret", 1400000001, "alice", time.Now(), time.Hour, nil)
	ticket, err := usersig.Parse(sig)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ticket.User, ticket.Check(1400000001, "alice", []string{"secret"}, time.Now()))
	// Output: alice <nil>
}
