package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	// caName is the name of the files of the CA, without their ends.
	caName = "ca"
	// caLife and nodeLife are how long certificates are good if nothing else is asked for.
	caLife   = 10 * 365 * 24 * time.Hour
	nodeLife = 365 * 24 * time.Hour
	// clockSlack is by how much the clocks of nodes may differ.
	clockSlack = time.Hour
)

// tlsFlags are those of both commands.
type tlsFlags struct {
	dir   string
	valid time.Duration
	force bool
}

func (f *tlsFlags) add(cmd *cobra.Command, valid time.Duration) {
	cmd.Flags().StringVar(&f.dir, "dir", "certs", "where the files of the CA stand, and new ones are written")
	cmd.Flags().DurationVar(&f.valid, "valid", valid, "how long the certificate is good, from now")
	cmd.Flags().BoolVar(&f.force, "force", false, "replace files that are there")
}

func newTLS() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tls", Short: "Make the certificates by which nodes know each other",
		Long: "Make a private CA, and certificates for nodes. Keep the CA's key off the nodes: whoever has it can join the cluster.",
	}
	cmd.AddCommand(newTLSCA(), newTLSCert())
	return cmd
}

func newTLSCA() *cobra.Command {
	var f tlsFlags
	var name string
	cmd := &cobra.Command{
		Use: "ca", Short: "Make the private CA of a cluster's nodes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			template := &x509.Certificate{
				Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
				KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			}
			return f.issue(cmd, caName, template, nil)
		},
	}
	f.add(cmd, caLife)
	cmd.Flags().StringVar(&name, "name", "Crier nodes", "the CA's name, for people")
	return cmd
}

func newTLSCert() *cobra.Command {
	var f tlsFlags
	var hosts []string
	cmd := &cobra.Command{
		Use: "cert NODE", Short: "Make the certificate of a node, or renew it", Args: cobra.ExactArgs(1),
		Long: "Make the certificate of a node, for both ends of its connections. NODE is the node's id, by which the others know it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			template := &x509.Certificate{
				Subject: pkix.Name{CommonName: args[0]}, DNSNames: []string{args[0]}, KeyUsage: x509.KeyUsageDigitalSignature,
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			}
			if err := checkHost(args[0]); err != nil || args[0] == caName {
				return errors.Join(fmt.Errorf("%q can't be the name of a node", args[0]), err)
			}
			for _, h := range hosts {
				if ip := net.ParseIP(h); ip != nil {
					template.IPAddresses = append(template.IPAddresses, ip)
				} else if err := checkHost(h); err != nil {
					return fmt.Errorf("--host %q: %w", h, err)
				} else {
					template.DNSNames = append(template.DNSNames, h)
				}
			}
			ca, err := loadCA(f.dir)
			if err != nil {
				return err
			}
			return f.issue(cmd, args[0], template, ca)
		},
	}
	f.add(cmd, nodeLife)
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "host names and IP addresses of the node, besides its id")
	return cmd
}

// checkHost refuses what is no host name, and with it what is no name for a file.
func checkHost(name string) error {
	if name == "" || len(name) > 253 || strings.Trim(name, ".-") != name {
		return errors.New("it must be 1 to 253 characters long, without dots or hyphens at its ends")
	}
	if i := strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
	}); i >= 0 {
		return errors.New("it must have letters, digits, dots, hyphens and underscores only")
	}
	return nil
}

// loadCA reads the CA that stands in dir.
func loadCA(dir string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, caName+".crt"), filepath.Join(dir, caName+".key"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no CA in %s; make one with crier tls ca: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	if !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s has a certificate that is no CA", dir)
	}
	return &pair, nil
}

// issue makes a key and its certificate, signed by ca or, without one, by itself, and writes both.
func (f *tlsFlags) issue(cmd *cobra.Command, name string, template *x509.Certificate, ca *tls.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-clockSlack), time.Now().Add(f.valid)
	parent, signer := template, crypto.PrivateKey(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
		if template.NotAfter.After(parent.NotAfter) {
			template.NotAfter = parent.NotAfter
		}
	}
	if f.valid <= 0 || !template.NotAfter.After(time.Now()) {
		return errors.New("the certificate would be good for no time: see --valid, and the end of the CA's own time")
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := f.write(name+".key", 0o600, "PRIVATE KEY", private); err != nil {
		return err
	}
	if err := f.write(name+".crt", 0o644, "CERTIFICATE", certificate); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s and %s, good until %s\n", filepath.Join(f.dir, name+".crt"), filepath.Join(f.dir, name+".key"),
		template.NotAfter.UTC().Format(time.DateOnly))
	return err
}

// write writes a PEM file that nobody reads half: it takes its name when it is whole.
func (f *tlsFlags) write(name string, mode fs.FileMode, kind string, der []byte) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	name = filepath.Join(f.dir, name)
	if _, err := os.Lstat(name); err == nil && !f.force {
		return fmt.Errorf("%s is there already; --force replaces it", name)
	}
	file, err := os.CreateTemp(f.dir, ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	err = errors.Join(pem.Encode(file, &pem.Block{Type: kind, Bytes: der}), file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
