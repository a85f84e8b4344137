// Package lepton connects to a Lepton server with the settings that Lepton publishes for its clients.
package lepton

import (
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// serviceConfig spreads calls over all addresses and tries those again that failed before they computed anything.
//
//go:embed service_config.json
var serviceConfig string

const (
	// A stream may be silent while its request waits; pings tell a slow server from a dead one.
	keepaliveTime    = 20 * time.Second
	keepaliveTimeout = 10 * time.Second
	maxResponseBytes = 64 << 20
)

// Options say how to connect.
type Options struct {
	// CA is a PEM file of the authority to trust. With it, or with TLS, the connection is encrypted.
	CA string
	// TLS encrypts, trusting the system's authorities where CA is empty.
	TLS bool
	// Certificate and Key are PEM files of the client's own, for a server that asks for them.
	Certificate, Key string
	// ServerName is the name that the server's certificate must carry; empty: the target's.
	ServerName string
	// Token is sent with every call as `authorization: Bearer TOKEN`. It needs an encrypted connection.
	Token string
}

// Dial makes a connection, which is established by its first call. A target like dns:///name:50051 is balanced over.
func Dial(target string, options Options) (*grpc.ClientConn, error) {
	transport, err := options.credentials()
	if err != nil {
		return nil, err
	}
	settings := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes)),
	}
	if options.Token != "" {
		settings = append(settings, grpc.WithPerRPCCredentials(bearer(options.Token)))
	}
	return grpc.NewClient(target, settings...)
}

func (options Options) credentials() (credentials.TransportCredentials, error) {
	if !options.TLS && options.CA == "" {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{ServerName: options.ServerName, MinVersion: tls.VersionTLS12}
	if options.CA != "" {
		pem, err := os.ReadFile(options.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", options.CA)
		}
	}
	if options.Certificate != "" {
		own, err := tls.LoadX509KeyPair(options.Certificate, options.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{own}
	}
	return credentials.NewTLS(config), nil
}
