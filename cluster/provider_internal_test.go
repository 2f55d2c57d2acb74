package cluster

import "testing"

// A node keeps its id for protoactor while it is there, whatever life it is in, and comes back with a new one.
func TestMemberIDs(t *testing.T) {
	t.Parallel()
	p := new(provider)
	other := Member{ActorAddress: "127.0.0.1:2", ActorSystem: "other"}
	for _, c := range []struct {
		life string // "": it is gone
		want string
	}{{"first", "first"}, {"second", "first"}, {"", ""}, {"third", "third"}, {"third", "third"}} {
		members := []Member{other}
		if c.life != "" {
			members = append(members, Member{ActorAddress: "127.0.0.1:1", ActorSystem: c.life})
		}
		got := ""
		for _, m := range p.members(members) {
			if m.Port == 1 {
				got = m.Id
			} else if m.Id != "other" {
				t.Errorf("the other is %s", m.Id)
			}
		}
		if got != c.want {
			t.Errorf("in its life %q it is %q, want %q", c.life, got, c.want)
		}
	}
}
