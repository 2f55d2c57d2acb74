package frame_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/http/gateway/frame"
)

// reasons reads the CloseReason constants from the vocabulary's source, so that
// no new one can be forgotten here.
func reasons(t *testing.T) []crier.CloseReason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../../presence.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []crier.CloseReason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "CloseReason" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, crier.CloseReason(text))
		}
		return true
	})
	return found
}

func TestEveryReasonHasACloseCode(t *testing.T) {
	t.Parallel()
	all := reasons(t)
	if len(all) < 13 || len(all) != len(frame.Closes()) {
		t.Fatalf("%d reasons, %d close codes", len(all), len(frame.Closes()))
	}
	for _, r := range all {
		c := frame.CloseFor(r)
		low, high := uint16(4000), uint16(4099)
		if !r.Reconnect() {
			low, high = 4100, 4199
		}
		if c.Reason != r || c.Code < low || c.Code > high || c.Text == "" || len(c.Text) > 123 {
			t.Errorf("%s: %+v is not in %d..%d", r, c, low, high)
		}
		if c.Reconnect() != r.Reconnect() || frame.ReconnectAfter(int(c.Code)) != r.Reconnect() || frame.ReasonOf(int(c.Code)) != r {
			t.Errorf("%s: %+v", r, c)
		}
	}
}

func TestCloseCodesAreUniqueAndSorted(t *testing.T) {
	t.Parallel()
	last := uint16(0)
	for _, c := range frame.Closes() {
		if c.Code <= last {
			t.Errorf("%d comes after %d", c.Code, last)
		}
		last = c.Code
	}
}

func TestReconnectAfterOtherCodes(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]bool{
		1000: true, 1001: true, 1005: true, 1006: true, 1011: true, 1012: true, 1013: true, 4099: true, 3000: true,
		1002: false, 1003: false, 1007: false, 1008: false, 1009: false, 4199: false,
	} {
		if got := frame.ReconnectAfter(code); got != want {
			t.Errorf("%d: got %v", code, got)
		}
	}
	if frame.ReasonOf(1000) != "" || frame.CloseFor("new").Reason != crier.CloseInternal {
		t.Error("an unknown code or reason has a meaning")
	}
}
