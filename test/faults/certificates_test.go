package faults

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// certify makes an authority, what it signs for pg1 at its best and at its
// worst, and what it does not.
func (s *faulty) certify() {
	now := time.Now()
	ca, caKey := s.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: now.Add(time.Hour)}, nil, nil)
	s.roots = x509.NewCertPool()
	s.roots.AddCert(ca)
	of := func(names []string, until time.Time, signed bool) *tls.Certificate {
		parent, key := ca, caKey
		if !signed {
			parent, key = nil, nil
		}
		cert, own := s.sign(&x509.Certificate{DNSNames: names, NotAfter: until}, parent, key)
		return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: own, Leaf: cert}
	}
	names := []string{"pg1", "pg2", "pg3"}
	s.good = of(names, now.Add(time.Hour), true)
	s.expired = of(names, now.Add(-time.Minute), true)
	s.foreign = of([]string{"pg9"}, now.Add(time.Hour), true)
	s.self = of(names, now.Add(time.Hour), false)
	s.cert.Store(s.good)
}

func (s *faulty) sign(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	template.SerialNumber, template.Subject, template.NotBefore = big.NewInt(1), pkix.Name{CommonName: "test"}, time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, cmp.Or(parent, template), key.Public(), cmp.Or(by, key))
	if err != nil {
		s.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.Fatal(err)
	}
	return cert, key
}

func (s *faulty) certificateFor(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == "pg1" {
		return s.cert.Load(), nil
	}
	return s.good, nil
}
