package actors

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/crier-im/crier"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
)

// crossingMessages are one of each type that crosses nodes.
var crossingMessages = []any{
	changeAccounts{},
	checkChanges{},
	readAccounts{},
	readPresence{},
	readReports{},
	readFunnel{},
	readCampaign{},
	explain{},
	claimDevice{},
	startCampaign{},
	acceptPush{},
	createApp{},
	updateApp{},
	setAttrNames{},
	readIndex{},
	failed{},
	done{},
	changed{},
	checked{},
	[]*crier.Account(nil), []crier.Presence(nil), []crier.Report(nil), (*crier.Funnel)(nil),
	(*crier.Campaign)(nil), (*crier.Explanation)(nil), []crier.UserID(nil),
	started{},
	attached{},
	repeated{},
	attachSession{},
	(*crier.Delivery)(nil),
	acknowledge{},
	moveSession{},
	confirmSession{},
	detachSession{},
	closeSession{},
	sessionForgotten{},
	fanoutTaken{[]string{"a", "b"}},
	fanout{},
}

// localMessages never leave their node: user, app and campaign actors are children of their partition's, and what an actor or its
// goroutines tell itself goes nowhere.
var localMessages = []any{
	sessionsChanged{}, acknowledged{}, passivate{}, userFailed{}, &deliver{}, endSessions{}, runCampaign{}, // between a partition and its children
	commandDone{}, flushTick{}, recordTick{}, sweepTick{}, whoIsConnected{}, notified{}, // of a partition to itself
	loginDone{}, sessionMissing{}, // of a user to itself
	begin{}, reattached{}, ledAnew{}, appDisabled{}, closed{}, registerDevice{}, logout{}, // of a session to itself
}

// random makes a value with every field filled at random, as the domain has them: times in milliseconds, lifetimes in seconds.
func random(t *rapid.T, v reflect.Value) {
	if !v.CanSet() {
		v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	}
	number := func(most int64) int64 { return rapid.Int64Range(0, most).Draw(t, "number") }
	switch v.Interface().(type) {
	case time.Time:
		if ms := number(1 << 42); ms > 0 {
			v.Set(reflect.ValueOf(time.UnixMilli(ms).UTC()))
		}
		return
	case time.Duration:
		v.SetInt(number(1<<32-1) * int64(time.Second))
		return
	case json.RawMessage:
		v.SetBytes([]byte(fmt.Sprintf(`{"Text":%d}`, number(1000))))
		return
	case []byte:
		v.SetBytes([]byte(fmt.Sprint(number(1000))))
		return
	case *actor.PID:
		text := rapid.String()
		v.Set(reflect.ValueOf(&actor.PID{Address: text.Draw(t, "address"), Id: text.Draw(t, "id"), RequestId: rapid.Uint32().Draw(t, "request")}))
		return
	case crier.AttrTerm:
		v.Set(reflect.ValueOf(crier.AttrTerm{Slot: int(number(crier.MaxAttrs - 1)), Value: rapid.String().Draw(t, "value")}))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			random(t, v.Field(i))
		}
	case reflect.Pointer: // a device of a change and an account of an answer may be absent
		_, device := v.Interface().(*crier.Device)
		_, account := v.Interface().(*crier.Account)
		if (device || account) && rapid.Bool().Draw(t, "absent") {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		random(t, v.Elem())
		if a, ok := v.Interface().(*crier.Account); ok { // in whole seconds
			if a.NotBefore = a.NotBefore.Truncate(time.Second); a.NotBefore.Unix() == 0 {
				a.NotBefore = time.Time{}
			}
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf(randomError(t)))
	case reflect.Slice:
		if n := int(number(3)); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			random(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 1 + number(2) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			random(t, key)
			random(t, value)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int:
		v.SetInt(number(1<<31 - 1))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "number"))
	default:
		t.Fatalf("what is a random %s?", v.Type())
	}
}

func randomError(t *rapid.T) error {
	coded := &crier.Error{Code: rapid.SampledFrom(crier.Codes()).Draw(t, "code"), Info: rapid.String().Draw(t, "info")}
	return rapid.SampledFrom([]error{coded, crier.ErrCampaignGap}).Draw(t, "err")
}

func TestEveryMessageComesBackAsItWas(t *testing.T) {
	t.Parallel()
	for _, example := range crossingMessages {
		t.Run(name(example), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				v := reflect.New(reflect.TypeOf(example)).Elem()
				random(t, v)
				msg := v.Interface()
				bytes, err := Codec{}.Encode(msg)
				if err != nil {
					t.Fatal(err)
				}
				got, err := Codec{}.Decode(bytes)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, msg) {
					t.Fatalf("got  %#v\nwant %#v", got, msg)
				}
			})
		})
	}
}

// What is absent stays absent.
func TestAbsentPartsStayAbsent(t *testing.T) {
	t.Parallel()
	for _, msg := range []any{
		(*crier.Funnel)(nil),
		[]*crier.Account{nil, {}},
		changed{[]error{nil, crier.ErrCampaignGap, nil}},
		checked{[]refusal{{}, {at: 3, err: crier.ErrCampaignGap}}},
		[]crier.UserID(nil), []crier.Presence(nil),
		repeated{first: &crier.Campaign{}},
		&crier.Delivery{},
		acknowledge{},
		moveSession{unread: -1},
		attachSession{login: new(crier.Login), session: actor.NewPID("", "")},
		setAttrNames{set: map[int]string{}},
		createApp{crier.CommandID{}, &crier.App{}},
	} {
		bytes, err := Codec{}.Encode(msg)
		if err != nil {
			t.Errorf("%T: %v", msg, err)
			continue
		}
		if got, err := (Codec{}).Decode(bytes); err != nil || !reflect.DeepEqual(got, msg) {
			t.Errorf("%T: got %#v, %v, want %#v", msg, got, err, msg)
		}
	}
}

func TestErrorsKeepWhatCallersTestFor(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk 7")
	for _, c := range []struct {
		err      error
		code     crier.Code
		info     string
		gap, own bool
	}{
		{&crier.Error{Code: crier.CodeBadAttr, Info: "slot 3", Err: cause}, crier.CodeBadAttr, "slot 3", false, true},
		{fmt.Errorf("start: %w", crier.ErrCampaignGap), 0, "", true, false},
		{&crier.Error{Code: crier.CodeTimeout, Info: "gap", Err: crier.ErrCampaignGap}, crier.CodeTimeout, "gap", true, true},
		{cause, crier.CodeInternal, "internal error, try again", false, true},
		{fmt.Errorf("not here: %w", crier.CodeTimeout), crier.CodeTimeout, crier.CodeTimeout.Text(), false, true},
		{crier.Errorf(crier.CodeBadAttr, "\xff"), crier.CodeBadAttr, "\uFFFD", false, true},
	} {
		bytes, err := Codec{}.Encode(failed{c.err})
		if err != nil {
			t.Fatal(err)
		}
		msg, err := Codec{}.Decode(bytes)
		if err != nil {
			t.Fatal(err)
		}
		got := msg.(failed).Failure()
		if errors.Is(got, crier.ErrCampaignGap) != c.gap || errors.Is(got, cause) {
			t.Errorf("%v became %v", c.err, got)
		}
		if e, ok := errors.AsType[*crier.Error](got); ok != c.own || ok && (e.Code != c.code || e.Info != c.info) {
			t.Errorf("%v became %v", c.err, got)
		}
	}
}

func TestLocalMessagesDoNotLeave(t *testing.T) {
	t.Parallel()
	for _, msg := range append(slices.Clone(localMessages), nil, "text", failed{}, (*crier.Delivery)(nil), attachSession{}, readAccounts{users: []crier.UserID{"\xff"}}) {
		if b, err := (Codec{}).Encode(msg); !errors.Is(err, crier.CodeInternal) {
			t.Errorf("%T became %x, %v", msg, b, err)
		}
	}
}

func TestAMessageOfANewerNodeIsNamed(t *testing.T) {
	t.Parallel()
	newer := protowire.AppendBytes(protowire.AppendTag(nil, 999, protowire.BytesType), []byte("?"))
	if _, err := (Codec{}).Decode(newer); !errors.Is(err, crier.CodeInternal) || !strings.Contains(err.Error(), "older than the sender") {
		t.Errorf("got %v", err)
	}
	for _, b := range []*actorv1.Body{
		{},
		{Kind: &actorv1.Body_StartCampaign{}},
		{Kind: &actorv1.Body_StartCampaign{StartCampaign: new(actorv1.StartCampaign)}},
		{Kind: &actorv1.Body_Explain{}},
		{Kind: &actorv1.Body_AcceptPush{}},
		{Kind: &actorv1.Body_AttachSession{}},
		{Kind: &actorv1.Body_Attached{}},
		{Kind: &actorv1.Body_Campaign{}},
		{Kind: &actorv1.Body_Explanation{}},
		{Kind: &actorv1.Body_Repeated{}},
		{Kind: &actorv1.Body_CreateApp{}},
		{Kind: &actorv1.Body_UpdateApp{UpdateApp: &actorv1.UpdateApp{App: []byte("null")}}},
		{Kind: &actorv1.Body_SessionForgotten{}},
		{Kind: &actorv1.Body_Fanout{Fanout: &actorv1.Fanout{Sessions: []string{"a"}}}},
	} {
		bytes, err := proto.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if msg, err := (Codec{}).Decode(bytes); !errors.Is(err, crier.CodeInternal) || msg != nil {
			t.Errorf("%T: got %#v, %v", b.GetKind(), msg, err)
		}
	}
}

// The schema has nothing that no message uses.
func TestEveryKindIsUsed(t *testing.T) {
	t.Parallel()
	unused := make(map[string]bool)
	fields := new(actorv1.Body).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		unused[string(fields.Get(i).Name())] = true
	}
	rapid.Check(t, func(t *rapid.T) {
		for _, example := range crossingMessages {
			v := reflect.New(reflect.TypeOf(example)).Elem()
			random(t, v)
			b := new(actorv1.Body)
			bytes, err := Codec{}.Encode(v.Interface())
			if err := errors.Join(err, proto.Unmarshal(bytes, b)); err != nil {
				t.Fatal(err)
			}
			m := b.ProtoReflect()
			delete(unused, string(m.WhichOneof(m.Descriptor().Oneofs().Get(0)).Name()))
		}
	})
	if len(unused) > 0 {
		t.Errorf("no message is of %v", slices.Sorted(maps.Keys(unused)))
	}
}

// Whoever adds a message decides whether it crosses nodes: here, and in the codec.
func TestEveryMessageIsKnownToTheCodec(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, msg := range slices.Concat(crossingMessages, localMessages) {
		known[name(msg)] = true
		known["&"+name(msg)] = true
	}
	known["*deliver"] = true
	for typ, where := range messagesOf(t) {
		if !known[typ] && !known["*"+typ] {
			t.Errorf("%s, in %s, is neither in crossingMessages nor in localMessages", typ, where)
		}
	}
}

func name(msg any) string { return strings.ReplaceAll(fmt.Sprintf("%T", msg), "actors.", "") }

// messagesOf returns the types of messages that the package's source names, and where: what messages.go declares, the cases of
// every Receive and of the codec, what is sent or responded as a literal, and what answers are asserted to be.
func messagesOf(t *testing.T) map[string]string {
	t.Helper()
	fset, found := token.NewFileSet(), make(map[string]string)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	add := func(e ast.Expr) {
		typ := strings.ReplaceAll(types.ExprString(e), "actors.", "")
		switch {
		case typ == "nil", typ == "[]T", strings.HasPrefix(typ, "*actor."), strings.HasPrefix(typ, "actor."), strings.HasPrefix(typ, "*actorv1."):
		default:
			found[typ] = fset.Position(e.Pos()).String()
		}
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				addOf(fn, add)
			}
			if g, ok := d.(*ast.GenDecl); ok && file == "messages.go" && g.Tok == token.TYPE {
				for _, s := range g.Specs {
					if n := s.(*ast.TypeSpec).Name; n.Name != "userKey" && n.Name != "refusal" {
						add(n)
					}
				}
			}
		}
	}
	if len(found) < 50 {
		t.Fatalf("only %d messages: has the source changed its form?", len(found))
	}
	return found
}

// addOf adds the types of messages that a function names.
func addOf(fn *ast.FuncDecl, add func(ast.Expr)) {
	handles := fn.Name.Name == "Receive" || strings.HasPrefix(fn.Name.Name, "encode")
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSwitchStmt:
			x := switched(n)
			if handles || types.ExprString(x) == "answer" {
				for _, c := range n.Body.List {
					for _, typ := range c.(*ast.CaseClause).List {
						add(typ)
					}
				}
			}
		case *ast.TypeAssertExpr:
			if n.Type != nil && types.ExprString(n.X) == "answer" {
				add(n.Type)
			}
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && (s.Sel.Name == "Send" || s.Sel.Name == "Respond") && len(n.Args) > 0 {
				if lit, ok := n.Args[len(n.Args)-1].(*ast.CompositeLit); ok {
					add(lit.Type)
				}
			}
		}
		return true
	})
}

// switched returns what a type switch is over.
func switched(s *ast.TypeSwitchStmt) ast.Expr {
	switch a := s.Assign.(type) {
	case *ast.ExprStmt:
		return a.X.(*ast.TypeAssertExpr).X
	case *ast.AssignStmt:
		return a.Rhs[0].(*ast.TypeAssertExpr).X
	}
	return nil
}

// FuzzDecode: no bytes cause a panic, and what can be read can be sent on.
func FuzzDecode(f *testing.F) {
	campaign := &crier.Campaign{App: 1, Task: "t", Seq: 7, LifeTime: time.Hour, Accepted: time.UnixMilli(1).UTC()}
	for _, msg := range []any{
		startCampaign{campaign, 6},
		repeated{campaign, crier.ErrCampaignGap},
		failed{crier.CodeTimeout},
		changed{[]error{nil}},
		createApp{crier.CommandID{}, &crier.App{ID: 1}},
		attachSession{login: new(crier.Login), session: actor.NewPID("a", "b"), unacked: []uint64{1, 2}},
		crier.NewDelivery(campaign, crier.English),
		[]*crier.Account{nil, {User: "u"}},
	} {
		bytes, err := Codec{}.Encode(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		msg, err := Codec{}.Decode(in)
		if err != nil {
			if !errors.Is(err, crier.CodeInternal) {
				t.Fatal(err)
			}
			return
		}
		bytes, err := Codec{}.Encode(msg)
		if err != nil {
			t.Fatalf("%T: %v", msg, err)
		}
		if again, err := (Codec{}).Decode(bytes); err != nil || reflect.TypeOf(again) != reflect.TypeOf(msg) {
			t.Fatalf("%#v became %#v, %v", msg, again, err)
		}
	})
}
