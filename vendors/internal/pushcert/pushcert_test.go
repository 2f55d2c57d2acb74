package pushcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"reflect"
	"testing"
)

func TestScopeRoundTrip(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Scope{
		{},
		{Topics: []string{"com.example"}, Sandbox: true},
		{Topics: []string{"com.example", "com.example.voip", "com.example.complication"}, Sandbox: true, Production: true},
	} {
		template := x509.Certificate{SerialNumber: big.NewInt(1)}
		if err := Apply(&template, want); err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if got := Of(cert); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func FuzzTopics(f *testing.F) {
	if der, err := marshalTopics([]string{"com.example", "com.example.voip"}); err == nil {
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		total := 0
		for _, topic := range topics(der) {
			total += len(topic)
		}
		if total > len(der) {
			t.Errorf("%d bytes of topics out of %d", total, len(der))
		}
	})
}
