package bench

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
	"github.com/crier-im/crier/internal/freeport"
	"github.com/crier-im/crier/vendors"
	"github.com/crier-im/crier/vendors/apns"
)

const (
	// vendorRounds is how often the raw limit and the broadcast are measured, in turn.
	vendorRounds = 5
	// registrars is how many connections register devices at a time: the registrations of one sync are answered together.
	registrars = 256
	// notifyChunk is how many accounts a partition notifies at a time (actors).
	notifyChunk = 64
	// notifyWithin bounds one broadcast.
	notifyWithin = 10 * time.Minute
	// simApp is the bundle id that is pushed to; simKeyID and simTeamID are those of apns-sim's own key.
	simApp    = "com.example.bench"
	simKeyID  = "DEMOKEY001"
	simTeamID = "DEMOTEAM01"
	// listener is who is connected during a broadcast, and onlineTag reaches nobody else.
	listener  = crier.UserID("listener")
	onlineTag = "online"
	// onlineGap is how often the listener is pushed to, onlineAlone how often without a broadcast.
	onlineGap   = 20 * time.Millisecond
	onlineAlone = 200
	vendorText  = "One notification to everybody who is away."
)

// simulator is an apns-sim process.
type simulator struct {
	url, ca    string // ca: the file
	roots      *x509.CertPool
	credential crier.Credential
	stop       func()
}

// startSimulator starts one on a directory below cfg.Dir.
func startSimulator(cfg Config) (*simulator, error) {
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	page, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.Dir, "apns-sim")
	_, stop, err := child(cfg, "apns-sim", "--listen", address, "--admin", page, "--dir", dir, "--no-prefixes")
	if err != nil {
		return nil, err
	}
	s := &simulator{url: "https://" + address, ca: filepath.Join(dir, "ca.pem"), roots: x509.NewCertPool(), stop: stop}
	for deadline := time.Now().Add(startWait); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + page + "/ca.pem") // its files are there before it answers
		if err == nil {
			_ = resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			stop()
			return nil, fmt.Errorf("apns-sim was not ready within %v", startWait)
		}
	}
	if err := s.read(dir); err != nil {
		stop()
		return nil, err
	}
	return s, nil
}

// read takes what the simulator made: the authority to trust, and its key.
func (s *simulator) read(dir string) error {
	text, err := os.ReadFile(s.ca)
	if err != nil {
		return err
	}
	if !s.roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s holds no certificate", s.ca)
	}
	key, err := os.ReadFile(filepath.Join(dir, "apns-demo.p8"))
	s.credential = crier.Credential{
		Vendor: crier.APNs, Target: simApp, Form: apns.FormKey, Params: map[string]string{"key_id": simKeyID, "team_id": simTeamID}, Secret: key,
	}
	return err
}

// operator calls the operator's API of a node.
type operator struct {
	url, token string
	http       *http.Client
}

func newOperator(url, token string) *operator {
	return &operator{url, token, &http.Client{Timeout: startWait, Transport: &http.Transport{MaxIdleConnsPerHost: registrars}}}
}

// operatorOf returns the operator of a node that keeps its token below cfg.Dir.
func operatorOf(cfg Config, n *node, dir string) (*operator, error) {
	token, err := os.ReadFile(filepath.Join(cfg.Dir, dir, "operator.token"))
	return newOperator(n.url, strings.TrimSpace(string(token))), err
}

// call sends in, unless it is nil, and reads the answer into out, unless that is.
func (o *operator) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, o.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+o.token)
	resp, err := o.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	case out == nil:
		return nil
	}
	return json.Unmarshal(text, out)
}

// deviceToken is the APNs token of the account with the number.
func deviceToken(i int) string { return fmt.Sprintf("%064x", i) }

// registerDevices gives each account a device, one call each, and returns how many a second.
func registerDevices(ctx context.Context, o *operator, app crier.AppID, n int) (perSecond float64, err error) {
	started := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(registrars)
	for i := range n {
		group.Go(func() error {
			return o.call(ctx, http.MethodPost, fmt.Sprintf("/v1/apps/%d/users/%s/devices", app, device(i)), map[string]any{
				"vendor": crier.APNs, "token": deviceToken(i), "target": simApp, "platform": crier.IPhone,
			}, nil)
		})
	}
	err = group.Wait()
	return float64(n) / time.Since(started).Seconds(), err
}

// prepareVendors fills the directory of a node with accounts, devices and the credential. The node is stopped then, so that the
// one that is measured does not hold what this has left in its memory.
func prepareVendors(ctx context.Context, cfg Config, sim *simulator, dir string) (registered float64, err error) {
	n, err := startNode(cfg, dir)
	if err != nil {
		return 0, err
	}
	defer n.stop()
	c, err := n.client()
	if err != nil {
		return 0, err
	}
	o, err := operatorOf(cfg, n, dir)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(importDevices(ctx, c, cfg.Devices), c.Import(ctx, listener)); err != nil {
		return 0, err
	}
	if err := c.AddTags(ctx, map[crier.UserID][]string{listener: {onlineTag}}); err != nil {
		return 0, err
	}
	if err := o.call(ctx, http.MethodPut, fmt.Sprintf("/v1/apps/%d/credentials", n.app), sim.credential, nil); err != nil {
		return 0, err
	}
	return registerDevices(ctx, o, n.app, cfg.Devices)
}

// measureVendors alternates a bare loop of the vendor's client and broadcasts of a server process, to the same simulator.
func measureVendors(ctx context.Context, cfg Config) ([]Result, error) {
	sim, err := startSimulator(cfg)
	if err != nil {
		return nil, err
	}
	defer sim.stop()
	const dir = "vendors"
	registered, err := prepareVendors(ctx, cfg, sim, dir)
	if err != nil {
		return nil, err
	}
	n, err := startNode(cfg, dir, "--vendors-apns-endpoint", sim.url, "--vendors-ca-file", sim.ca)
	if err != nil {
		return nil, err
	}
	defer n.stop()
	b := &broadcaster{cfg: cfg, node: n, sim: sim}
	if b.client, err = n.client(); err != nil {
		return nil, err
	}
	if b.operator, err = operatorOf(cfg, n, dir); err != nil {
		return nil, err
	}
	results, err := b.measure(ctx)
	return append([]Result{{
		Name:  fmt.Sprintf("devices registered over the operator's API, one a call, %d connections", registrars),
		Value: fmt.Sprintf("%.0f devices/s", registered), Limit: "-", Ratio: "-", Goal: "-",
	}}, results...), err
}

// broadcaster measures pushes of one node to every device.
type broadcaster struct {
	cfg      Config
	node     *node
	sim      *simulator
	client   *client.Client
	operator *operator
}

func (b *broadcaster) measure(ctx context.Context) ([]Result, error) {
	time.Sleep(10 * time.Second) // sessions have their time to come back before vendors are told
	tokens := make([]string, b.cfg.Devices)
	for i := range tokens {
		tokens[i] = deviceToken(i)
	}
	options := apns.Options{Endpoint: b.sim.url, RootCAs: b.sim.roots, Concurrency: vendors.DefaultConcurrency}
	body := []byte(`{"aps":{"alert":"` + vendorText + `"}}`)
	var raws, rates, ratios []float64
	var extra []float64 // memory of each round
	var first, most int64
	for round := range vendorRounds {
		raw, err := apns.MeasureRaw(ctx, b.sim.credential, options, tokens, body)
		if err != nil {
			return nil, err
		}
		before, err := residentBytes(b.node.pid)
		if err != nil {
			return nil, err
		}
		rate, memory, err := b.broadcast(ctx)
		if err != nil {
			return nil, err
		}
		if round == 0 {
			first = before
		}
		most = max(most, memory)
		fmt.Fprintf(b.cfg.Out, "  round %d: %.0f of %.0f notifications/s, from %d MB to %d MB resident\n", round+1, rate, raw, before>>20, memory>>20)
		raws, rates, ratios, extra = append(raws, raw), append(rates, rate), append(ratios, rate/raw), append(extra, float64(memory-before)/(1<<20))
	}
	online, err := b.measureOnline(ctx)
	return append([]Result{
		{
			Name:  fmt.Sprintf("one push to %d devices that are away, until APNs has taken the last, %d at a time", b.cfg.Devices, vendors.DefaultConcurrency),
			Value: fmt.Sprintf("%.0f notifications/s", median(rates)), Limit: fmt.Sprintf("%.0f notifications/s, apns2 in a loop, %d at a time", median(raws), vendors.DefaultConcurrency),
			Ratio: fmt.Sprintf("%.2f", median(ratios)), Goal: "0.7 or more",
		},
		{
			Name:  fmt.Sprintf("resident memory that a push to %d devices takes: the first, the %d after it, and all together", b.cfg.Devices, vendorRounds-1),
			Value: fmt.Sprintf("%.0f MB, %.0f MB each, %d MB", extra[0], median(extra[1:]), (most-first)>>20), Limit: "-", Ratio: "-", Goal: "200 MB or less",
		},
	}, online...), err
}

// broadcast pushes to everyone, and returns how many were notified a second, from the call until the log has the last, and
// the most memory that was resident.
func (b *broadcaster) broadcast(ctx context.Context) (perSecond float64, memory int64, err error) {
	started := time.Now()
	task, err := b.client.Push(ctx, client.Push{Text: vendorText, LifeTime: time.Hour})
	if err != nil {
		return 0, 0, err
	}
	for ; time.Since(started) < notifyWithin; time.Sleep(20 * time.Millisecond) {
		resident, failed := residentBytes(b.node.pid)
		if failed != nil {
			return 0, 0, failed
		}
		memory = max(memory, resident)
		var answer struct{ Funnel *crier.Funnel }
		err = b.operator.call(ctx, http.MethodGet, "/v1/tasks/"+string(task), nil, &answer)
		switch f := answer.Funnel; {
		case err != nil: // a node under load may say 503, try again
		case f == nil || f.Vendor.Accepted < uint64(b.cfg.Devices) && len(f.Vendor.Failed) == 0:
		case len(f.Vendor.Failed) > 0:
			return 0, 0, fmt.Errorf("notifications failed: %v", f.Vendor.Failed)
		default:
			return float64(b.cfg.Devices) / time.Since(started).Seconds(), memory, nil
		}
	}
	return 0, 0, errors.Join(fmt.Errorf("not everybody was notified within %v", notifyWithin), err)
}

// measureOnline times pushes to somebody who is connected, without a broadcast and during one.
func (b *broadcaster) measureOnline(ctx context.Context) ([]Result, error) {
	r := &arrivals{at: make(map[crier.TaskID]chan time.Time)}
	listening, hangUp := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer hangUp()
	up := make(chan struct{})
	var once sync.Once
	wg.Go(func() {
		_ = client.Listen(listening, client.ListenConfig{ // ends with the measurement
			URL: b.node.url, SDKAppID: b.node.app, UserID: listener, UserSig: client.SecretKey(b.node.key),
			OnMessage: func(_ context.Context, m *client.Message) error { r.arrived(m.Task); return nil },
			OnState: func(s client.State) {
				if s.Connected {
					once.Do(func() { close(up) })
				}
			},
		})
	})
	select {
	case <-up:
	case <-time.After(startWait):
		return nil, fmt.Errorf("the listener was not connected within %v", startWait)
	}
	alone, err := b.online(ctx, r, func(n int) bool { return n < onlineAlone })
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	var rate float64
	var failed error
	wg.Go(func() {
		defer close(done)
		rate, _, failed = b.broadcast(ctx)
	})
	during, err := b.online(ctx, r, func(int) bool {
		select {
		case <-done:
			return false
		default:
			return true
		}
	})
	<-done
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	chunk := float64(notifyChunk*crier.DefaultPartitions) / rate * 1000
	ms := func(times []time.Duration, p float64) float64 { return percentile(times, p).Seconds() * 1000 }
	return []Result{{
		Name:  fmt.Sprintf("a push to one who is connected, from the call to the receiver, while %d devices are notified (%.0f notifications/s, %d pushes)", b.cfg.Devices, rate, len(during)),
		Value: fmt.Sprintf("p50 %.0f ms, p99 %.0f ms", ms(during, 0.5), ms(during, 0.99)), Limit: fmt.Sprintf("p50 %.0f ms, p99 %.0f ms, without", ms(alone, 0.5), ms(alone, 0.99)),
		Ratio: fmt.Sprintf("%.1f", ms(during, 0.99)/ms(alone, 0.99)), Goal: fmt.Sprintf("p99 of a chunk's time, %.0f ms, or less", chunk),
	}}, nil
}

// online pushes to the listener, one after another, and returns how long each took to come.
func (b *broadcaster) online(ctx context.Context, r *arrivals, more func(n int) bool) (took []time.Duration, err error) {
	for n := 0; more(n); n++ {
		started := time.Now()
		task, err := b.client.Push(ctx, client.Push{Text: "To you alone.", Condition: crier.ConditionSpec{TagsOr: []string{onlineTag}}})
		if err != nil {
			return nil, err
		}
		select {
		case at := <-r.wait(task):
			took = append(took, at.Sub(started))
		case <-time.After(arriveWithin):
			return nil, fmt.Errorf("%s did not come within %v", task, arriveWithin)
		}
		time.Sleep(onlineGap)
	}
	return took, nil
}

// arrivals notes when messages came, whichever of the answer to the push and the message is the first.
type arrivals struct {
	mu sync.Mutex
	at map[crier.TaskID]chan time.Time
}

func (r *arrivals) wait(task crier.TaskID) chan time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at[task] == nil {
		r.at[task] = make(chan time.Time, 1)
	}
	return r.at[task]
}

func (r *arrivals) arrived(task crier.TaskID) {
	select {
	case r.wait(task) <- time.Now():
	default: // a second time
	}
}
