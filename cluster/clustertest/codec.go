package clustertest

import (
	"encoding/json"
	"fmt"

	"github.com/crier-im/crier"
)

// Codec is cluster.Codec for what Host's actors take and answer.
type Codec struct{}

// wire is a message or an answer as JSON.
type wire struct {
	Command []byte `json:",omitempty"`
	Count   *int   `json:",omitempty"`
	Code    int    `json:",omitempty"`
	Info    string `json:",omitempty"`
}

// Encode is cluster.Codec's.
func (Codec) Encode(msg any) ([]byte, error) {
	switch m := msg.(type) {
	case []byte:
		return json.Marshal(wire{Command: m})
	case int:
		return json.Marshal(wire{Count: &m})
	case Failure:
		e := crier.AsError(m.Err)
		return json.Marshal(wire{Code: int(e.Code), Info: e.Info})
	}
	return nil, fmt.Errorf("a %T can't be encoded", msg)
}

// Decode is cluster.Codec's.
func (Codec) Decode(b []byte) (any, error) {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	switch {
	case w.Code != 0:
		return Failure{crier.Errorf(crier.Code(w.Code), "%s", w.Info)}, nil
	case w.Count != nil:
		return *w.Count, nil
	}
	return w.Command, nil
}
