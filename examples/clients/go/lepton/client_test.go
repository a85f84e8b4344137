package lepton_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	leptonv1 "lepton.dev/examples/clients/go/gen/lepton/v1"
	"lepton.dev/examples/clients/go/lepton"
)

// connect dials the server whose address is in the environment.
func connect(t *testing.T) *grpc.ClientConn {
	t.Helper()
	target := os.Getenv("LEPTON_TARGET")
	if target == "" {
		t.Fatal("LEPTON_TARGET names no server; see README.md")
	}
	connection, err := lepton.Dial(target, lepton.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}

func ask(prompt string, tokens int32) *leptonv1.GenerateRequest {
	goesOn := true
	return &leptonv1.GenerateRequest{
		Prompt: &leptonv1.GenerateRequest_Text{Text: prompt},
		Stop:   &leptonv1.StopCriteria{MaxTokens: &tokens, IgnoreEos: &goesOn},
	}
}

// eventually waits until the server's figures are as wanted; the test's own deadline bounds it.
func eventually(ctx context.Context, t *testing.T, stats leptonv1.StatsServiceClient, holds func(*leptonv1.Stats) bool) {
	t.Helper()
	watch, err := stats.WatchStats(ctx, &leptonv1.WatchStatsRequest{Interval: durationpb.New(100 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	for {
		answer, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if holds(answer.GetStats()) {
			return
		}
	}
}

func TestStreams(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	events, err := leptonv1.NewGenerationServiceClient(connect(t)).Generate(ctx, ask("Once upon a time", 12))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	var started *leptonv1.Started
	var finished *leptonv1.Finished
	deltas, tokens := 0, 0
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(lepton.Explain(err))
		}
		switch event := event.Event.(type) {
		case *leptonv1.GenerateResponse_Started:
			started = event.Started
		case *leptonv1.GenerateResponse_Delta:
			deltas++
			tokens += len(event.Delta.TokenIds)
			text.WriteString(event.Delta.Text)
		case *leptonv1.GenerateResponse_Finished:
			finished = event.Finished
		}
	}
	if started.GetPromptTokens() == 0 || tokens != 12 || deltas < 2 || text.Len() == 0 {
		t.Errorf("started %v, %d tokens in %d deltas: %q", started, tokens, deltas, text.String())
	}
	if finished.GetReason() != leptonv1.FinishReason_FINISH_REASON_LENGTH || finished.GetUsage().GetGeneratedTokens() != 12 {
		t.Errorf("finished %v", finished)
	}
}

func TestCancelStopsTheWork(t *testing.T) {
	deadline, release := context.WithTimeout(context.Background(), time.Minute)
	defer release()
	connection := connect(t)
	ctx, cancel := context.WithCancel(deadline)
	request := ask("Once upon a time", 400)
	request.RequestId = "go-cancelled"
	events, err := leptonv1.NewGenerationServiceClient(connection).Generate(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := events.Recv(); err != nil {
		t.Fatal(lepton.Explain(err))
	}
	cancel()
	for err == nil {
		_, err = events.Recv()
	}
	if failure := lepton.Explain(err); failure.Code != codes.Canceled {
		t.Errorf("%v", failure)
	}
	eventually(deadline, t, leptonv1.NewStatsServiceClient(connection), func(stats *leptonv1.Stats) bool {
		return stats.GetRunning() == 0 && stats.GetWaiting() == 0 && stats.GetAborted() > 0
	})
}

func TestDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := leptonv1.NewGenerationServiceClient(connect(t)).Complete(ctx, &leptonv1.CompleteRequest{
		Prompt: &leptonv1.CompleteRequest_Text{Text: "Once upon a time"},
	})
	if failure := lepton.Explain(err); failure.Code != codes.DeadlineExceeded {
		t.Errorf("%v", failure)
	}
}

func TestBadRequestNamesTheField(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	request := ask("Once upon a time", 4)
	topP := 2.0
	request.Sampling = &leptonv1.SamplingParams{TopP: &topP}
	events, err := leptonv1.NewGenerationServiceClient(connect(t)).Generate(ctx, request)
	if err == nil {
		_, err = events.Recv()
	}
	failure := lepton.Explain(err)
	if failure.Code != codes.InvalidArgument || failure.Reason != "INVALID_FIELD" || failure.Fields["sampling.top_p"] == "" {
		t.Errorf("%+v", failure)
	}
}

func TestRetryInfoOfARefusal(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	request := ask("Once upon a time", 4)
	request.MaxQueueTime = durationpb.New(time.Nanosecond)
	events, err := leptonv1.NewGenerationServiceClient(connect(t)).Generate(ctx, request)
	if err == nil {
		_, err = events.Recv()
	}
	failure := lepton.Explain(err)
	if failure.Code != codes.ResourceExhausted || failure.Reason != "QUEUE_TIMEOUT" || failure.RetryAfter <= 0 {
		t.Errorf("%+v", failure)
	}
}

func TestTLSWithToken(t *testing.T) {
	target, ca := os.Getenv("LEPTON_TLS_TARGET"), os.Getenv("LEPTON_CA")
	if target == "" {
		t.Skip("LEPTON_TLS_TARGET names no server")
	}
	connection, err := lepton.Dial(target, lepton.Options{CA: ca, Token: os.Getenv("LEPTON_TOKEN")})
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var headers metadata.MD
	_, err = leptonv1.NewGenerationServiceClient(connection).Complete(ctx, &leptonv1.CompleteRequest{
		Prompt: &leptonv1.CompleteRequest_Text{Text: "Once upon a time"},
		Stop:   ask("", 4).Stop,
	}, grpc.Header(&headers))
	if err != nil || len(headers.Get("x-request-id")) != 1 {
		t.Errorf("%v, headers %v", err, headers)
	}
}

func TestATokenIsNotSentInPlaintext(t *testing.T) {
	if _, err := lepton.Dial("localhost:1", lepton.Options{Token: "secret"}); err == nil {
		t.Error("a token without TLS was accepted")
	}
}
