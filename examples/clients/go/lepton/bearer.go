package lepton

import "context"

// bearer is a token that grpc sends with every call, and refuses to send in plaintext.
type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

func (token bearer) RequireTransportSecurity() bool { return true }
