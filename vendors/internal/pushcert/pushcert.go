// Package pushcert reads and writes what a push certificate says beside its
// key: the topics and the environments that it is for.
package pushcert

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
)

// Apple's extensions, and the attribute of the subject that holds the bundle id.
var (
	oidUID        = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	oidSandbox    = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 1}
	oidProduction = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 2}
	oidTopics     = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 6}
)

// Scope is what a certificate may push to.
type Scope struct {
	Topics              []string // the bundle id first, then such as "com.example.voip"
	Sandbox, Production bool     // the environments; a universal certificate has both
}

// Of returns the scope of a certificate. One that Apple did not make has an empty one.
func Of(cert *x509.Certificate) (s Scope) {
	for _, name := range cert.Subject.Names {
		if text, ok := name.Value.(string); ok && name.Type.Equal(oidUID) {
			s.Topics = append(s.Topics, text)
		}
	}
	for _, e := range cert.Extensions {
		switch {
		case e.Id.Equal(oidSandbox):
			s.Sandbox = true
		case e.Id.Equal(oidProduction):
			s.Production = true
		case e.Id.Equal(oidTopics):
			for _, topic := range topics(e.Value) {
				if !slices.Contains(s.Topics, topic) {
					s.Topics = append(s.Topics, topic)
				}
			}
		}
	}
	return s
}

// topics reads the topics' extension: a sequence of a string, the topic, and a
// sequence of what it is used for, and so on.
func topics(der []byte) (found []string) {
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(der, &outer); err != nil || outer.Tag != asn1.TagSequence {
		return nil
	}
	for rest := outer.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			return found
		}
		if v.Class == asn1.ClassUniversal && v.Tag == asn1.TagUTF8String {
			found = append(found, string(v.Bytes))
		}
	}
	return found
}

// Apply makes a template for a certificate with the scope.
func Apply(template *x509.Certificate, s Scope) error {
	if len(s.Topics) > 0 {
		template.Subject.ExtraNames = append(template.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: oidUID, Value: s.Topics[0]})
	}
	if s.Sandbox {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidSandbox, Value: asn1.NullBytes})
	}
	if s.Production {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidProduction, Value: asn1.NullBytes})
	}
	if len(s.Topics) < 2 {
		return nil
	}
	der, err := marshalTopics(s.Topics)
	if err == nil {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidTopics, Value: der})
	}
	return err
}

func marshalTopics(topics []string) ([]byte, error) {
	var inner []byte
	for _, topic := range topics {
		text, err := asn1.MarshalWithParams(topic, "utf8")
		if err != nil {
			return nil, err
		}
		use, err := asn1.Marshal([]string{"app"})
		if err != nil {
			return nil, err
		}
		inner = append(append(inner, text...), use...)
	}
	return asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: inner})
}
