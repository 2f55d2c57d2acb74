package architecture

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/crier-im/crier"

// layers are the packages that meet through the vocabulary or through an
// interface of the consumer, and do not import one another.
var layers = []string{"actors", "cluster", "http", "persistence"}

type pkg struct {
	ImportPath, Name, Doc string
	Imports               []string
}

func packages(t *testing.T) (all []pkg) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Imports", module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages", len(all))
	}
	return all
}

// layer returns the layer of a package, "" if it is in none.
func layer(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, module+"/"), "/")
	for _, l := range layers {
		if first == l {
			return l
		}
	}
	return ""
}

func TestImportsPointInwards(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, i := range p.Imports {
			from, to := layer(p.ImportPath), layer(i)
			switch {
			case strings.HasPrefix(i, module) && from != "" && to != "" && from != to:
				t.Errorf("%s imports %s", p.ImportPath, i)
			case p.ImportPath == module && strings.Contains(i, "."):
				t.Errorf("the vocabulary imports %s: it has the standard library only", i)
			case from != "" && (i == module+"/internal/app" || i == module+"/internal/config"):
				t.Errorf("%s imports %s, which wires it", p.ImportPath, i)
			}
		}
	}
}

func TestEveryPackageHasItsComment(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if p.Doc == "" && !strings.Contains(p.ImportPath, "/proto/") && len(p.Imports) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
