package crier_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crier-im/crier"
)

func TestParseUserID(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in string
		ok bool
	}{
		"one byte":      {"a", true},
		"32 bytes":      {strings.Repeat("a", 32), true},
		"33 bytes":      {strings.Repeat("a", 33), false},
		"Chinese":       {"用户一", true},
		"spaces inside": {"a b", true},
		"empty":         {"", false},
		"invalid UTF-8": {"a\xff", false},
		"NUL":           {"a\x00b", false},
		"newline":       {"a\nb", false},
	} {
		_, err := crier.ParseUserID(c.in)
		if c.ok && err != nil || !c.ok && !errors.Is(err, crier.CodeBadAccount) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\n":                           `"a\n"`,
		strings.Repeat("x", 64):         `"` + strings.Repeat("x", 64) + `"`,
		strings.Repeat("x", 65):         `"` + strings.Repeat("x", 64) + `"...`,
		"x" + strings.Repeat("é", 40):   `"x` + strings.Repeat("é", 31) + `"...`,
		"xx" + strings.Repeat("名", 30):  `"xx` + strings.Repeat("名", 20) + `"...`,
		"xxx" + strings.Repeat("👍", 20): `"xxx` + strings.Repeat("👍", 15) + `"...`,
		strings.Repeat("\x80", 70):      `"` + strings.Repeat(`\x80`, 60) + `"...`,
	} {
		if got := crier.Quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestParseAppID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]crier.AppID{"1400000001": 1400000001, "4294967295": 4294967295} {
		if got, err := crier.ParseAppID(in); err != nil || got != want || got.String() != in {
			t.Errorf("%q: got %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "-1", "4294967296", "1x", "1.0"} {
		if _, err := crier.ParseAppID(in); !errors.Is(err, crier.CodeBadSDKAppID) || !strings.Contains(err.Error(), "sdkappid "+strconv.Quote(in)+" is") {
			t.Errorf("%q: got %v", in, err)
		}
	}
}

func TestTaskIDRoundTrip(t *testing.T) {
	t.Parallel()
	id := crier.NewTaskID(1400000001, time.UnixMilli(1700000000123), 4294967295, 42)
	if app, seq, ok := id.Parse(); app != 1400000001 || seq != 42 || !ok {
		t.Errorf("%s: %v %v %v", id, app, seq, ok)
	}
	for _, bad := range []crier.TaskID{"", "x", "1_2_3", "1_2_3_4_5", "01_2_3_4", "1_2_3_+4", "1_2_4294967296_4", "1_2_3_-4"} {
		if _, _, ok := bad.Parse(); ok {
			t.Errorf("%q was parsed", bad)
		}
	}
}

// The hash is part of the data format: these values must never change. They were
// computed by an independent implementation.
func TestPartitionOfIsFixed(t *testing.T) {
	t.Parallel()
	for user, want := range map[crier.UserID]crier.PartitionID{"": 9, "alice": 53, "bob": 63, "用户一": 49} {
		if got := crier.PartitionOf(1400000001, user, 64); got != want {
			t.Errorf("%q: partition %d, want %d", user, got, want)
		}
	}
	counts := make([]int, 64)
	for i := range 64000 {
		counts[crier.PartitionOf(1400000001, crier.UserID(fmt.Sprintf("user%06d", i)), 64)]++
	}
	if least, most := slices.Min(counts), slices.Max(counts); least < 850 || most > 1150 {
		t.Errorf("64000 accounts over 64 partitions: least %d, most %d", least, most)
	}
}

func TestErrorsUnwrapToCodes(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk on fire")
	err := fmt.Errorf("open: %w", &crier.Error{Code: crier.CodeInternal, Info: "try again", Err: cause})
	if !errors.Is(err, crier.CodeInternal) || !errors.Is(err, cause) || errors.Is(err, crier.CodeTimeout) {
		t.Errorf("%v", err)
	}
	if e := crier.AsError(err); e.Info != "try again" {
		t.Errorf("%+v", e)
	}
	if e := crier.AsError(cause); e.Code != crier.CodeInternal || strings.Contains(e.Info, "fire") {
		t.Errorf("a cause shows: %+v", e)
	}
	if e := crier.AsError(fmt.Errorf("x: %w", crier.CodePushOff)); e.Code != crier.CodePushOff || e.Info == "" {
		t.Errorf("%+v", e)
	}
	if crier.AsError(nil) != nil {
		t.Error("nil is an error")
	}
}

func TestEveryCodeHasAText(t *testing.T) {
	t.Parallel()
	for _, c := range crier.Codes() {
		if c.Text() == "" || c < 60000 || c > 99999 {
			t.Errorf("code %d: %q", int(c), c.Text())
		}
	}
}

func TestAttrNamesWith(t *testing.T) {
	t.Parallel()
	start := crier.AttrNames{0: "sex", 1: "city"}
	for name, c := range map[string]struct {
		set  map[int]string
		want crier.AttrNames
		ok   bool
	}{
		"new slot":               {map[int]string{9: "level"}, crier.AttrNames{0: "sex", 1: "city", 9: "level"}, true},
		"rename":                 {map[int]string{0: "gender"}, crier.AttrNames{0: "gender", 1: "city"}, true},
		"the same again":         {map[int]string{0: "sex"}, start, true},
		"swap":                   {map[int]string{0: "city", 1: "sex"}, crier.AttrNames{0: "city", 1: "sex"}, true},
		"nothing":                {nil, start, true},
		"name of another slot":   {map[int]string{2: "sex"}, start, false},
		"one name twice":         {map[int]string{2: "x", 3: "x"}, start, false},
		"slot 10":                {map[int]string{10: "x"}, start, false},
		"slot -1":                {map[int]string{-1: "x"}, start, false},
		"empty name":             {map[int]string{2: ""}, start, false},
		"51 bytes":               {map[int]string{2: strings.Repeat("x", 51)}, start, false},
		"NUL":                    {map[int]string{2: "a\x00"}, start, false},
		"invalid UTF-8":          {map[int]string{2: "\xff"}, start, false},
		"50 bytes is the limit":  {map[int]string{2: strings.Repeat("x", 50)}, crier.AttrNames{0: "sex", 1: "city", 2: strings.Repeat("x", 50)}, true},
		"17 Chinese letters: 51": {map[int]string{2: strings.Repeat("字", 17)}, start, false},
	} {
		got, err := start.With(c.set)
		if c.ok != (err == nil) || c.ok && got != c.want || !c.ok && !errors.Is(err, crier.CodeBadAttr) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestAppKeys(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0)
	app := crier.App{Key: "new", OldKey: "old", OldKeyUntil: now}
	if got := app.Keys(now.Add(-time.Second)); !slices.Equal(got, []string{"new", "old"}) {
		t.Errorf("in the grace: %v", got)
	}
	if got := app.Keys(now); !slices.Equal(got, []string{"new"}) {
		t.Errorf("after the grace: %v", got)
	}
	if got := (&crier.App{}).Keys(now); len(got) != 0 {
		t.Errorf("an app without a key has %v", got)
	}
	if a, b := crier.NewKey(), crier.NewKey(); len(a) != 64 || a == b {
		t.Errorf("keys %q and %q", a, b)
	}
}

func TestAppValidateNamesTheField(t *testing.T) {
	t.Parallel()
	good := crier.App{ID: 1, Admins: []crier.UserID{"admin"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for field, change := range map[string]func(*crier.App){
		"id":             func(a *crier.App) { a.ID = 0 },
		"name":           func(a *crier.App) { a.Name = strings.Repeat("x", 129) },
		"admins must":    func(a *crier.App) { a.Admins = nil },
		"admins[1]":      func(a *crier.App) { a.Admins = []crier.UserID{"a", ""} },
		"session_policy": func(a *crier.App) { a.Sessions = "none" },
		"language":       func(a *crier.App) { a.Language = "fr" },
	} {
		app := good
		change(&app)
		if err := app.Validate(); !errors.Is(err, crier.CodeBadParameter) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func tags(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("tag%d", i))
	}
	return out
}

func TestParseCondition(t *testing.T) {
	t.Parallel()
	names := crier.AttrNames{0: "sex", 3: "city"}
	long := strings.Repeat("x", 51)
	type attrs = map[string]string
	for name, c := range map[string]struct {
		spec crier.ConditionSpec
		want error
	}{
		"everyone":            {crier.ConditionSpec{}, nil},
		"empty lists":         {crier.ConditionSpec{TagsOr: []string{}, AttrsOr: attrs{}}, nil},
		"10 tags":             {crier.ConditionSpec{TagsOr: tags(10), TagsNot: tags(10)}, nil},
		"11 tags in TagsOr":   {crier.ConditionSpec{TagsOr: tags(11)}, crier.CodeTooManyTags},
		"11 tags in TagsAnd":  {crier.ConditionSpec{TagsAnd: tags(11)}, crier.CodeTooManyTags},
		"11 tags in TagsNot":  {crier.ConditionSpec{TagsNot: tags(11)}, crier.CodeTooManyTags},
		"tag of 50 bytes":     {crier.ConditionSpec{TagsOr: []string{long[:50]}}, nil},
		"tag of 51 bytes":     {crier.ConditionSpec{TagsOr: []string{long}}, crier.CodeTagTooLong},
		"empty tag":           {crier.ConditionSpec{TagsAnd: []string{""}}, crier.CodeTagEmpty},
		"tag with NUL":        {crier.ConditionSpec{TagsAnd: []string{"\x00"}}, crier.CodeTagBadValue},
		"tag in Or and And":   {crier.ConditionSpec{TagsOr: []string{"a", "b"}, TagsAnd: []string{"b"}}, crier.CodeTagTwice},
		"tag in Or and Not":   {crier.ConditionSpec{TagsOr: []string{"a"}, TagsNot: []string{"a"}}, nil},
		"tag twice in Or":     {crier.ConditionSpec{TagsOr: []string{"a", "a"}}, nil},
		"attributes":          {crier.ConditionSpec{AttrsOr: attrs{"sex": "m"}, AttrsAnd: attrs{"city": "x"}}, nil},
		"attribute not set":   {crier.ConditionSpec{AttrsOr: attrs{"level": "1"}}, crier.CodeBadAttr},
		"empty name":          {crier.ConditionSpec{AttrsOr: attrs{"": "1"}}, crier.CodeBadAttr},
		"empty value":         {crier.ConditionSpec{AttrsAnd: attrs{"sex": ""}}, crier.CodeBadAttr},
		"value of 50 bytes":   {crier.ConditionSpec{AttrsAnd: attrs{"sex": long[:50]}}, nil},
		"value of 51 bytes":   {crier.ConditionSpec{AttrsAnd: attrs{"sex": long}}, crier.CodeBadAttr},
		"tags and attributes": {crier.ConditionSpec{TagsOr: []string{"a"}, AttrsOr: attrs{"sex": "m"}}, crier.CodeMixedCondition},
		"not and attributes":  {crier.ConditionSpec{TagsNot: []string{"a"}, AttrsAnd: attrs{"sex": "m"}}, crier.CodeMixedCondition},
	} {
		if _, err := crier.ParseCondition(c.spec, &names); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestConditionMatch(t *testing.T) {
	t.Parallel()
	names := crier.AttrNames{0: "level", 1: "city"}
	type attrs = map[string]string
	account := crier.Account{Tags: []string{"a", "b"}, Attrs: crier.Attrs{0: "gold", 1: "Shenzhen"}}
	for name, c := range map[string]struct {
		spec crier.ConditionSpec
		want bool
	}{
		"everyone":               {crier.ConditionSpec{}, true},
		"any of":                 {crier.ConditionSpec{TagsOr: []string{"x", "b"}}, true},
		"none of any":            {crier.ConditionSpec{TagsOr: []string{"x", "y"}}, false},
		"all of":                 {crier.ConditionSpec{TagsAnd: []string{"a", "b"}}, true},
		"not all of":             {crier.ConditionSpec{TagsAnd: []string{"a", "x"}}, false},
		"or holds, and does not": {crier.ConditionSpec{TagsOr: []string{"a"}, TagsAnd: []string{"x"}}, false},
		"and holds, or does not": {crier.ConditionSpec{TagsOr: []string{"x"}, TagsAnd: []string{"a"}}, false},
		"both hold":              {crier.ConditionSpec{TagsOr: []string{"a", "x"}, TagsAnd: []string{"b"}}, true},
		"not one it lacks":       {crier.ConditionSpec{TagsNot: []string{"x"}}, true},
		"not, it has one of two": {crier.ConditionSpec{TagsOr: []string{"a"}, TagsNot: []string{"x", "b"}}, false},
		"case counts":            {crier.ConditionSpec{TagsOr: []string{"A"}}, false},
		"attribute or":           {crier.ConditionSpec{AttrsOr: attrs{"level": "silver", "city": "Shenzhen"}}, true},
		"attribute or, none":     {crier.ConditionSpec{AttrsOr: attrs{"level": "silver", "city": "Beijing"}}, false},
		"attribute and":          {crier.ConditionSpec{AttrsAnd: attrs{"level": "gold", "city": "Shenzhen"}}, true},
		"attribute and, one off": {crier.ConditionSpec{AttrsAnd: attrs{"level": "gold", "city": "Beijing"}}, false},
		"attributes, both kinds": {crier.ConditionSpec{AttrsOr: attrs{"level": "silver"}, AttrsAnd: attrs{"city": "Shenzhen"}}, false},
	} {
		cond, err := crier.ParseCondition(c.spec, &names)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := cond.Match(&account); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestAKickForbidsDevicesOfEarlierLogins(t *testing.T) {
	t.Parallel()
	kick := time.Unix(1700000000, 0).UTC()
	var a crier.Account
	for _, c := range []struct {
		token   string
		sigTime time.Time
		kicked  bool
		code    crier.Code // 0: it is registered
	}{
		{token: "before any kick", sigTime: kick.Add(-time.Hour)},
		{token: "before", sigTime: kick.Add(-time.Hour), kicked: true, code: crier.CodeSigRevoked},
		{token: "same second", sigTime: kick.Add(999 * time.Millisecond), kicked: true, code: crier.CodeSigRevoked},
		{token: "next second", sigTime: kick.Add(time.Second), kicked: true},
		{token: "no login", kicked: true},
	} {
		if c.kicked && a.NotBefore.IsZero() {
			if _, err := (&crier.Change{Op: crier.OpKick}).Apply(&a, true, kick.Add(time.Millisecond)); err != nil {
				t.Fatal(err)
			}
		}
		register := crier.Change{Op: crier.OpRegisterDevice, Device: &crier.Device{Vendor: crier.APNs, Token: c.token}, SigTime: c.sigTime}
		_, err := register.Apply(&a, true, kick.Add(time.Minute))
		has := len(a.Devices) > 0 && a.Devices[len(a.Devices)-1].Token == c.token
		if c.code == 0 && (err != nil || !has) || c.code != 0 && (!errors.Is(err, c.code) || has) {
			t.Errorf("%s: %v, devices %+v", c.token, err, a.Devices)
		}
	}
}

func TestDevicesOfAnAccount(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0).UTC()
	var a crier.Account
	apply := func(c crier.Change) {
		t.Helper()
		if _, err := c.Apply(&a, true, now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
	}
	tokens := func() (all []string) {
		for _, d := range a.Devices {
			all = append(all, d.Token)
		}
		return all
	}
	for _, token := range []string{"a", "b", "c", "b", "d"} {
		apply(crier.Change{Op: crier.OpRegisterDevice, MaxDevices: 3, Device: &crier.Device{Vendor: crier.APNs, Token: token}})
	}
	if got := tokens(); !slices.Equal(got, []string{"c", "b", "d"}) {
		t.Errorf("registered: %v", got)
	}
	apply(crier.Change{Op: crier.OpRegisterDevice, Device: &crier.Device{Vendor: crier.FCM, Token: "d"}})
	apply(crier.Change{Op: crier.OpRemoveDevice, Device: &crier.Device{Vendor: crier.APNs, Token: "d"}})
	if got := tokens(); !slices.Equal(got, []string{"c", "b", "d"}) || a.Devices[2].Vendor != crier.FCM {
		t.Errorf("another vendor's: %v", got)
	}
	registered, seen := a.Devices[1], now
	apply(crier.Change{Op: crier.OpSeeDevice, Device: &crier.Device{Vendor: crier.APNs, Token: "b"}})
	apply(crier.Change{Op: crier.OpSeeDevice, Device: &crier.Device{Vendor: crier.APNs, Token: "none"}})
	for i, d := range a.Devices {
		if d.LastSeen.Equal(seen) != (i == 1) || i == 1 && d.Registered != registered.Registered {
			t.Errorf("seen: %+v", d)
		}
	}
	if !registered.LastSeen.Equal(registered.Registered) {
		t.Errorf("a registration: %+v", registered)
	}
	gone := crier.Device{Vendor: crier.APNs, Token: "b", Registered: a.Devices[1].Registered.Add(-time.Second)}
	apply(crier.Change{Op: crier.OpRemoveDevice, Device: &gone})
	if len(a.Devices) != 3 {
		t.Error("a device that was registered after it was gone is removed")
	}
	gone.Registered = a.Devices[1].Registered
	apply(crier.Change{Op: crier.OpRemoveDevice, Device: &gone})
	if got := tokens(); !slices.Equal(got, []string{"c", "d"}) {
		t.Errorf("removed: %v", got)
	}
	apply(crier.Change{Op: crier.OpKick})
	if len(a.Devices) != 0 {
		t.Error("a kick leaves devices")
	}
}

func TestChangeApply(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 500e6).UTC()
	start := crier.Account{User: "u", Tags: []string{"a", "b"}, Attrs: crier.Attrs{0: "x"}}
	for name, c := range map[string]struct {
		change crier.Change
		exists bool
		want   func(*crier.Account)
		err    error
	}{
		"import an old one": {crier.Change{Op: crier.OpImport, Profile: crier.Profile{Nick: "n"}}, true, func(a *crier.Account) { a.Profile.Nick = "n" }, nil},
		"log in":            {crier.Change{Op: crier.OpLogin}, true, func(*crier.Account) {}, nil},
		"set attributes":    {crier.Change{Op: crier.OpSetAttrs, Attrs: crier.Attrs{1: "y"}}, true, func(a *crier.Account) { a.Attrs[1] = "y" }, nil},
		"remove attributes": {crier.Change{Op: crier.OpRemoveAttrs, Attrs: crier.Attrs{0: "-", 1: "-"}}, true, func(a *crier.Account) { a.Attrs[0] = "" }, nil},
		"add tags":          {crier.Change{Op: crier.OpAddTags, Tags: []string{"c", "a", "c"}, MaxTags: 3}, true, func(a *crier.Account) { a.Tags = []string{"a", "b", "c"} }, nil},
		"one tag too many":  {crier.Change{Op: crier.OpAddTags, Tags: []string{"c"}, MaxTags: 2}, true, nil, crier.CodeAccountTagsFull},
		"full, but there":   {crier.Change{Op: crier.OpAddTags, Tags: []string{"a"}, MaxTags: 1}, true, func(*crier.Account) {}, nil},
		"remove tags":       {crier.Change{Op: crier.OpRemoveTags, Tags: []string{"b", "z"}}, true, func(a *crier.Account) { a.Tags = []string{"a"} }, nil},
		"remove all tags":   {crier.Change{Op: crier.OpRemoveAllTags}, true, func(a *crier.Account) { a.Tags = nil }, nil},
		"kick":              {crier.Change{Op: crier.OpKick}, true, func(a *crier.Account) { a.NotBefore = time.Unix(1700000000, 0).UTC() }, nil},
		"set on nobody":     {crier.Change{Op: crier.OpSetAttrs}, false, nil, crier.CodeUnknownAccount},
		"delete nobody":     {crier.Change{Op: crier.OpDelete}, false, nil, crier.CodeUnknownAccount},
		"kick nobody":       {crier.Change{Op: crier.OpKick}, false, nil, crier.CodeUnknownAccount},
	} {
		got, want := start, start
		_, err := c.change.Apply(&got, c.exists, now)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want %v", name, err, c.err)
		}
		if c.want != nil {
			c.want(&want)
			switch c.change.Op {
			case crier.OpSetAttrs, crier.OpRemoveAttrs, crier.OpAddTags, crier.OpRemoveTags, crier.OpRemoveAllTags:
				want.Changed = now
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
		if !slices.Equal(start.Tags, []string{"a", "b"}) {
			t.Fatalf("%s wrote the shared tags: %v", name, start.Tags)
		}
	}
	var fresh crier.Account
	imported := crier.Change{Op: crier.OpImport, User: "new"}
	if exists, err := imported.Apply(&fresh, false, now); err != nil || !exists || fresh.User != "new" || !fresh.Created.Equal(now) {
		t.Errorf("import: %+v, %v, %v", fresh, exists, err)
	}
	gone := crier.Change{Op: crier.OpDelete}
	if exists, err := gone.Apply(&fresh, true, now); err != nil || exists {
		t.Errorf("delete: %v, %v", exists, err)
	}
}

func element(kind crier.ElementType, content string) crier.Element {
	return crier.Element{Type: kind, Content: json.RawMessage(content)}
}

func TestCheckElements(t *testing.T) {
	t.Parallel()
	custom := element(crier.CustomElement, `{"Data":"d"}`)
	for name, c := range map[string]struct {
		in   []crier.Element
		want error
	}{
		"none":               {nil, crier.CodeNoMsgBody},
		"text":               {[]crier.Element{element(crier.TextElement, `{"Text":"hi"}`)}, nil},
		"text null":          {[]crier.Element{element(crier.TextElement, `{"Text":null}`)}, crier.CodeBadElement},
		"text without Text":  {[]crier.Element{element(crier.TextElement, `{}`)}, crier.CodeBadElement},
		"text as a number":   {[]crier.Element{element(crier.TextElement, `{"Text":5}`)}, crier.CodeBadElement},
		"no content":         {[]crier.Element{{Type: crier.TextElement}}, crier.CodeBadElement},
		"content null":       {[]crier.Element{element(crier.TextElement, `null`)}, crier.CodeBadElement},
		"content array":      {[]crier.Element{element(crier.TextElement, `[]`)}, crier.CodeBadElement},
		"unknown type":       {[]crier.Element{element("TIMOther", `{}`)}, crier.CodeBadElement},
		"location":           {[]crier.Element{element(crier.LocationElement, `{"Desc":"d","Latitude":-1.5,"Longitude":2}`)}, nil},
		"latitude as string": {[]crier.Element{element(crier.LocationElement, `{"Latitude":"1"}`)}, crier.CodeBadElement},
		"face":               {[]crier.Element{element(crier.FaceElement, `{"Index":1,"Data":"x"}`)}, nil},
		"face index string":  {[]crier.Element{element(crier.FaceElement, `{"Index":"1"}`)}, crier.CodeBadElement},
		"one custom":         {[]crier.Element{custom}, nil},
		"two custom":         {[]crier.Element{custom, custom}, crier.CodeBadElement},
		"media as given":     {[]crier.Element{element(crier.ImageElement, `{"UUID":5,"x":[1]}`)}, nil},
	} {
		if err := crier.CheckElements(c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestNotification(t *testing.T) {
	t.Parallel()
	text := element(crier.TextElement, `{"Text":"hello"}`)
	custom := element(crier.CustomElement, `{"Data":"d","Desc":"desc","Ext":"e","Sound":"s.aiff"}`)
	for name, c := range map[string]struct {
		msg  crier.Message
		lang crier.Language
		want crier.Notification
	}{
		"texts joined": {crier.Message{Elements: []crier.Element{text, custom, text}}, "", crier.Notification{Text: "hellodeschello", Ext: "e", Sound: "s.aiff"}},
		"words in English": {
			crier.Message{Elements: []crier.Element{
				element(crier.LocationElement, `{"Desc":"x"}`), element(crier.FaceElement, `{}`),
				element(crier.SoundElement, `{}`), element(crier.ImageElement, `{"Text":5}`), element(crier.FileElement, `{}`), element(crier.VideoElement, `{}`),
			}},
			crier.English,
			crier.Notification{Text: "[Location][Face][Voice][Image][File][Video]"},
		},
		"words in Chinese":            {crier.Message{Elements: []crier.Element{element(crier.LocationElement, `{}`), element(crier.FaceElement, `{}`)}}, crier.Chinese, crier.Notification{Text: "[位置][表情]"}},
		"offline info overrides":      {crier.Message{Elements: []crier.Element{text, custom}, Offline: crier.OfflinePush{Title: "t", Desc: "d", Ext: "x", Raw: []byte("{}")}}, "", crier.Notification{Title: "t", Text: "d", Ext: "x"}},
		"offline info without a Desc": {crier.Message{Elements: []crier.Element{text, custom}, Offline: crier.OfflinePush{Raw: []byte("{}")}}, "", crier.Notification{Text: "hellodesc"}},
	} {
		if got := c.msg.Notification(c.lang); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}
