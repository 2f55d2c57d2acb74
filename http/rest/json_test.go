package rest

import "testing"

// What of a body is stored is what came, without white space and whatever stands around it.
func TestValuesAreParts(t *testing.T) {
	t.Parallel()
	body := " {\"a\" : [ 1.50e1, null , \"\\u0041\\n\" ],\t\"b\":{ \"c d\" : {} , \"e\":null, \"\\u0066\":false}}\n"
	v, err := parseBody([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		got  *value
		want string
	}{
		{"the body", v, `{"a":[1.50e1,null,"\u0041\n"],"b":{"c d":{},"e":null,"\u0066":false}}`},
		{"an array", v.get("a"), `[1.50e1,null,"\u0041\n"]`},
		{"a number", v.get("a").list[0], `1.50e1`},
		{"a string", v.get("a").list[2], `"\u0041\n"`},
		{"an object", v.get("b"), `{"c d":{},"e":null,"\u0066":false}`},
		{"an empty object", v.get("b").get("c d"), `{}`},
		{"a boolean", v.get("b").get("f"), `false`},
	} {
		if got := string(c.got.json()); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
	if again := string(v.json()); again != `{"a":[1.50e1,null,"\u0041\n"],"b":{"c d":{},"e":null,"\u0066":false}}` {
		t.Errorf("asked again, the body is %s", again)
	}
	if v.get("a").list[1] != nil || v.get("b").get("e") != nil || v.get("a").list[2].text != "A\n" {
		t.Errorf("%+v", v)
	}
}
