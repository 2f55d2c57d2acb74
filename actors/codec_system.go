package actors

import (
	"encoding/json"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/internal/wire"
	actorv1 "github.com/crier-im/crier/proto/crier/actor/v1"
)

// encodeSystem sets the kind of b to a request to the system actor; another message leaves it. Apps travel as they are in the log.
func encodeSystem(b *actorv1.Body, msg any) error {
	switch m := msg.(type) {
	case createApp:
		app, err := json.Marshal(m.app)
		b.Kind = &actorv1.Body_CreateApp{CreateApp: &actorv1.CreateApp{App: app, Id: wire.FromCommandID(m.id)}}
		return err
	case updateApp:
		app, err := json.Marshal(m.app)
		b.Kind = &actorv1.Body_UpdateApp{UpdateApp: &actorv1.UpdateApp{App: app, Id: wire.FromCommandID(m.id)}}
		return err
	case setAttrNames:
		names := make(map[uint32]string, len(m.set))
		for slot, name := range m.set {
			names[uint32(slot)] = name
		}
		b.Kind = &actorv1.Body_SetAttrNames{SetAttrNames: &actorv1.SetAttrNames{App: uint32(m.app), Names: names, Id: wire.FromCommandID(m.id)}}
	case readIndex:
		b.Kind = &actorv1.Body_ReadIndex{ReadIndex: new(actorv1.ReadIndex)}
	}
	return nil
}

// decodeSystem returns a request to the system actor, nil for another message.
func decodeSystem(b *actorv1.Body) (any, error) {
	switch k := b.GetKind().(type) {
	case *actorv1.Body_CreateApp:
		app, err := toApp(k.CreateApp.GetApp())
		return createApp{wire.ToCommandID(k.CreateApp.GetId()), app}, err
	case *actorv1.Body_UpdateApp:
		app, err := toApp(k.UpdateApp.GetApp())
		return updateApp{wire.ToCommandID(k.UpdateApp.GetId()), app}, err
	case *actorv1.Body_SetAttrNames:
		set := make(map[int]string, len(k.SetAttrNames.GetNames()))
		for slot, name := range k.SetAttrNames.GetNames() {
			set[int(slot)] = name
		}
		return setAttrNames{wire.ToCommandID(k.SetAttrNames.GetId()), crier.AppID(k.SetAttrNames.GetApp()), set}, nil
	case *actorv1.Body_ReadIndex:
		return readIndex{}, nil
	}
	return nil, nil
}

func toApp(b []byte) (app *crier.App, err error) {
	if err := json.Unmarshal(b, &app); err != nil {
		return nil, err
	}
	if app == nil {
		return nil, errIncomplete
	}
	return app, nil
}
