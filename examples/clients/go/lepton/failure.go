package lepton

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Failure is what a server says of a call that failed. The reasons are those of lepton/v1/errors.proto.
type Failure struct {
	Code    codes.Code
	Message string
	// Reason is the ErrorReason's name without its prefix (QUEUE_FULL); empty where gRPC itself answered.
	Reason string
	// Figures are the reason's metadata, by name.
	Figures map[string]string
	// Fields are those at fault: path to the value found and what is allowed.
	Fields map[string]string
	// RetryAfter is how long to wait before the same call; 0 where the server did not say.
	RetryAfter time.Duration
}

// Explain reads the details of an error that a call returned.
func Explain(err error) Failure {
	given := status.Convert(err)
	failure := Failure{Code: given.Code(), Message: given.Message(), Fields: map[string]string{}}
	for _, detail := range given.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.Reason, failure.Figures = detail.Reason, detail.Metadata
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				failure.Fields[violation.Field] = violation.Description
			}
		case *errdetails.RetryInfo:
			failure.RetryAfter = detail.RetryDelay.AsDuration()
		}
	}
	return failure
}

// Error says it in one line.
func (failure Failure) Error() string {
	text := failure.Code.String()
	if failure.Reason != "" {
		text += " (" + failure.Reason + ")"
	}
	text += ": " + failure.Message
	if failure.RetryAfter > 0 {
		text += fmt.Sprintf("; try again in %s", failure.RetryAfter)
	}
	return text
}
