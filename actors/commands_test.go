package actors

import (
	"testing"

	"github.com/crier-im/crier"
)

func TestCommandsAreNumbered(t *testing.T) {
	c := newCommandIDs()
	one, two, three := c.begin(7), c.begin(7), c.begin(7)
	other := c.begin(8)
	if one.Origin == 0 || one.Origin != other.Origin || newCommandIDs().origin == one.Origin {
		t.Errorf("origins %x, %x", one.Origin, other.Origin)
	}
	if one.Number != 1 || two.Number != 2 || three.Number != 3 || three.Oldest != 1 || other.Number != 1 {
		t.Errorf("%v %v %v, %v", one, two, three, other)
	}
	c.end(7, two)
	if four := c.begin(7); four.Number != 4 || four.Oldest != 1 {
		t.Errorf("the first is under way: %v", four)
	}
	c.end(7, one)
	if five := c.begin(7); five.Number != 5 || five.Oldest != 3 {
		t.Errorf("the third is under way: %v", five)
	}
	c.end(8, other)
	if next := c.begin(8); next != (crier.CommandID{Origin: one.Origin, Number: 2, Oldest: 2}) {
		t.Errorf("none is under way: %v", next)
	}
}
