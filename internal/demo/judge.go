package demo

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/crier-im/crier"
)

// fate is what should become of one push for one person, or what did.
type fate struct {
	live    int // how often it came over the connection at once
	mailbox int // or later
	banners int // how often the phone showed it
	matched bool
	banner  bool
	why     string
}

// fate returns what should become of a push for a person.
func (s *story) fate(a *actor, sc *scene) fate {
	why := sc.why(a)
	f := fate{matched: why.matches, why: why.because}
	if !f.matched {
		return f
	}
	held := a.role == silent && s.fallback == 0
	f.banner = sc.kept && a.phone != nil && a.phone.gone == "" && a.role != connected && a.role != loggedOut && !held
	if f.banner {
		f.banners = 1
	}
	switch {
	case a.online():
		f.live = 1
	case sc.kept && a.role == comesBack:
		f.mailbox = 1
	}
	switch how := s.how(a, sc); {
	case how == "":
	case f.why == everyone:
		f.why = how
	default:
		f.why += "; " + how
	}
	return f
}

// how says why a push reached a person the way it did, "" where that needs no words.
func (s *story) how(a *actor, sc *scene) string {
	switch {
	case a.role == connected:
		return ""
	case !sc.kept && !a.online():
		return "was away; for who is online only"
	case a.role == asleep && sc.kept:
		return "the app was in the background"
	case a.role == silent && sc.kept && s.fallback == 0:
		return "acknowledges nothing, but the app's fallback_after is 0"
	case a.role == silent && sc.kept:
		return fmt.Sprintf("acknowledged nothing for %v", s.fallback)
	case a.role == loggedOut:
		return "logged out: kept for the next login"
	case a.phone == nil && a.role == comesBack && s.phones == nil:
		return "was away"
	case a.phone == nil && a.role == comesBack:
		return "was away, and has no phone"
	case a.phone == nil && a.role == staysAway:
		return "still away: kept"
	case a.phone != nil && a.phone.gone != "":
		return "was away, and the phone is gone: " + a.phone.gone
	case a.role == comesBack:
		return "was away, is back"
	case a.role == staysAway:
		return "is away"
	}
	return ""
}

// words say what a person has of a push.
func (f *fate) words(a *actor) string {
	var parts []string
	add := func(n int, what string) {
		if n > 1 {
			what = fmt.Sprintf("%s %d times", what, n)
		}
		if n > 0 {
			parts = append(parts, what)
		}
	}
	add(f.live, "live")
	if a.phone != nil {
		add(f.banners, "banner on the "+string(a.phone.platform))
	}
	add(f.mailbox, "found in the mailbox")
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// received returns what a person really got of a push.
func received(a *actor, sc *scene, screens map[string]*screen) (f fate) {
	n, later := a.count(sc.task)
	if later {
		f.mailbox = n
	} else {
		f.live = n
	}
	if a.phone != nil && screens[a.phone.token] != nil {
		f.banners = screens[a.phone.token].banners[sc.text]
	}
	return f
}

// verdict is what the judge found.
type verdict struct {
	wrong   []string // differences, in words
	lines   []line
	screens map[string]*screen
}

// line is one line of the table: those who got the same of a push, for the same reason.
type line struct {
	scene            *scene
	rank             int
	words, why, mark string
	people           []string
}

// end waits until everybody has what they should, and prints the judgement.
func (s *story) end(ctx context.Context) error {
	v, err := s.judge(ctx)
	for deadline := time.Now().Add(settle + s.fallback); err == nil && len(v.wrong) > 0 && time.Now().Before(deadline) && ctx.Err() == nil; {
		time.Sleep(100 * time.Millisecond)
		v, err = s.judge(ctx)
	}
	if err != nil {
		return err
	}
	s.print(v)
	if len(v.wrong) > 0 {
		s.say(true, "%d things differ from what should have been:", len(v.wrong))
		for _, w := range v.wrong {
			s.say(false, "%s", w)
		}
		return ErrDiffers
	}
	s.say(true, "every message reached whom it was for, once, and nobody else")
	if s.cfg.Operator != nil {
		s.say(false, "The server tells the same of each person and push. Look yourself:")
		s.say(false, "  crier report %s", s.scenes[0].task)
		if s.cfg.Keep {
			s.say(false, "  crier explain %s %s", s.scenes[0].task, s.find("hua").user)
		} else {
			s.say(false, "  crier demo --keep     leaves the accounts, so that crier explain can tell of them")
		}
	}
	return nil
}

// judge compares what everybody got, and what the server says of it, with what should be.
func (s *story) judge(ctx context.Context) (*verdict, error) {
	v := new(verdict)
	if s.phones != nil {
		var err error
		if v.screens, err = s.phones.shown(ctx); err != nil {
			return nil, err
		}
	}
	for _, sc := range s.scenes {
		for _, a := range s.people {
			s.compare(v, a, sc)
			if err := s.checkExplanation(ctx, v, a, sc); err != nil {
				return nil, err
			}
		}
	}
	for _, a := range s.people {
		a.mu.Lock()
		if !slices.IsSorted(a.order) {
			v.wrong = append(v.wrong, fmt.Sprintf("%s got messages out of order: %v", a.name, a.order))
		}
		a.mu.Unlock()
		if err := s.checkPhone(ctx, v, a); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// compare adds a person to the lines of a push, and a difference to what is wrong.
func (s *story) compare(v *verdict, a *actor, sc *scene) {
	want, got := s.fate(a, sc), received(a, sc, v.screens)
	mark := ""
	if got.live != want.live || got.mailbox != want.mailbox || got.banners != want.banners {
		mark = "WRONG: "
		v.wrong = append(v.wrong, fmt.Sprintf("%s, %s: %s instead of %s", sc.title, a.name, got.words(a), want.words(a)))
	}
	l := line{scene: sc, rank: got.rank(), words: got.words(a), why: want.why, mark: mark}
	at := slices.IndexFunc(v.lines, func(o line) bool { return o.scene == sc && o.words == l.words && o.why == l.why && o.mark == l.mark })
	if at < 0 {
		at = len(v.lines)
		v.lines = append(v.lines, l)
	}
	v.lines[at].people = append(v.lines[at].people, a.name)
}

// rank orders the lines of a push: who got it live first, who got nothing last.
func (f *fate) rank() int {
	bit := func(n, value int) int { return min(n, 1) * value }
	return slices.Index([]int{4, 6, 5, 7, 3, 2, 1, 0}, bit(f.live, 4)+bit(f.banners, 2)+bit(f.mailbox, 1))
}

// checkExplanation compares what the server says of a push for a person with what should be.
func (s *story) checkExplanation(ctx context.Context, v *verdict, a *actor, sc *scene) error {
	if s.cfg.Operator == nil {
		return nil
	}
	var got crier.Explanation
	path := "/v1/tasks/" + string(sc.task) + "/users/" + url.PathEscape(string(a.user))
	if err := s.cfg.Operator(ctx, http.MethodGet, path, nil, &got); err != nil {
		return fmt.Errorf("explain %s for %s: %w", sc.task, a.user, err)
	}
	want := s.explanation(a, sc)
	differs := func(what string, got, want any) {
		if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
			v.wrong = append(v.wrong, fmt.Sprintf("%s, %s: the server says %s %s instead of %s", sc.title, a.name, what, g, w))
		}
	}
	differs("known", got.Known, true)
	differs("matched", got.Matched, want.Matched)
	differs("delivery", got.Delivery, want.Delivery)
	differs("vendor", got.Vendor, want.Vendor)
	if want.Matched {
		differs("online", got.Online, want.Online)
		differs("because", got.Because, want.Because)
	}
	last := func(all []crier.Attempt) string { // what was tried before may have been a vendor that was busy
		if len(all) == 0 {
			return "nothing tried"
		}
		t := all[len(all)-1]
		return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", t.Vendor, t.Device, t.Outcome, t.Reason))
	}
	differs("attempt", last(got.Attempts), last(want.Attempts))
	return nil
}

// explanation returns what the server should say.
func (s *story) explanation(a *actor, sc *scene) crier.Explanation {
	f := s.fate(a, sc)
	e := crier.Explanation{Matched: f.matched, Because: sc.why(a).parts, Online: f.live > 0, Delivery: crier.DeliveryNone, Vendor: crier.NotifyNone}
	if !f.matched || !sc.kept {
		return e
	}
	e.Delivery = crier.DeliveryWaiting
	if f.live > 0 && a.role != silent || f.mailbox > 0 {
		e.Delivery = crier.DeliveryAcknowledged
	}
	attempt := crier.Attempt{Outcome: string(crier.OutcomeAccepted)}
	switch {
	case a.phone != nil && a.phone.gone != "":
		attempt.Outcome, attempt.Reason = string(crier.OutcomeGone), a.phone.gone
	case !f.banner:
		return e
	}
	attempt.Vendor, attempt.Device = a.phone.vendor, (&crier.Device{Token: a.phone.token}).ShortToken()
	e.Vendor, e.Attempts = crier.NotifyDone, []crier.Attempt{attempt}
	return e
}

// checkPhone compares the devices that a person has in the end, and the badge of an iPhone, with what should be.
func (s *story) checkPhone(ctx context.Context, v *verdict, a *actor) error {
	if a.phone == nil {
		return nil
	}
	devices, err := s.devices(ctx, a)
	if err != nil {
		return err
	}
	want := 1
	if a.phone.gone != "" || a.role == loggedOut {
		want = 0
	}
	if len(devices) != want {
		v.wrong = append(v.wrong, fmt.Sprintf("%s has %d registered phones instead of %d", a.name, len(devices), want))
	}
	if got, want := badge(v.screens[a.phone.token]), s.badge(a); got != want {
		v.wrong = append(v.wrong, fmt.Sprintf("the icon on the iPhone of %s shows %d instead of %d", a.name, got, want))
	}
	return nil
}

func badge(sc *screen) int {
	if sc == nil || sc.badge == nil {
		return 0
	}
	return *sc.badge
}

// badge returns the number that the icon on a person's iPhone should show: what was unread, and each banner.
func (s *story) badge(a *actor) (n int) {
	if a.phone.vendor != crier.APNs {
		return 0
	}
	for _, sc := range s.scenes {
		n += s.fate(a, sc).banners
	}
	if n > 0 && a.role == asleep {
		n += a.phone.unread // the app told it when it went to the background
	}
	return n
}

// print prints who got what, and why.
func (s *story) print(v *verdict) {
	s.say(true, "who got what, and why")
	slices.SortStableFunc(v.lines, func(a, b line) int { return cmp.Compare(a.rank, b.rank) })
	for i, sc := range s.scenes {
		s.say(false, "%d. %s", i+1, sc.title)
		w := tabwriter.NewWriter(s.cfg.Out, 0, 0, 3, ' ', 0)
		for _, l := range v.lines {
			if l.scene == sc {
				fmt.Fprintf(w, "     %s%s\t%s\t%s\n", l.mark, l.words, strings.Join(l.people, " "), l.why)
			}
		}
		_ = w.Flush() // as good as the lines before it
		fmt.Fprintln(s.cfg.Out)
	}
	var icons []string
	for _, a := range s.people {
		if a.phone != nil && a.phone.vendor == crier.APNs && v.screens[a.phone.token] != nil {
			before := ""
			if a.role == asleep {
				before = fmt.Sprintf(", %d of them unread before", a.phone.unread)
			}
			icons = append(icons, fmt.Sprintf("%s (%.12s…) %d%s", a.name, a.phone.token, badge(v.screens[a.phone.token]), before))
		}
	}
	if len(icons) > 0 {
		s.say(false, "Numbers on the icons of the iPhones: %s", strings.Join(icons, "; "))
	}
}
