// Command client streams a completion from a Lepton server to standard output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	leptonv1 "lepton.dev/examples/clients/go/gen/lepton/v1"
	"lepton.dev/examples/clients/go/lepton"
)

func main() {
	var options lepton.Options
	target := flag.String("target", "localhost:50051", "server, as host:port or dns:///name:port")
	prompt := flag.String("prompt", "Once upon a time", "text to continue")
	tokens := flag.Int("max-tokens", 64, "the most tokens to generate")
	deadline := flag.Duration("deadline", time.Minute, "fail when it takes longer")
	flag.StringVar(&options.CA, "ca", "", "PEM file of the authority that signed the server's certificate")
	flag.BoolVar(&options.TLS, "tls", false, "encrypt, trusting the system's authorities")
	flag.StringVar(&options.Token, "token", os.Getenv("LEPTON_TOKEN"), "bearer token (default: LEPTON_TOKEN)")
	flag.Parse()

	// Ctrl-C cancels the context and with it the call: the server stops the work within one step.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *deadline)
	defer cancel()
	if err := stream(ctx, *target, options, *prompt, int32(*tokens)); err != nil {
		failure := lepton.Explain(err)
		fmt.Fprintln(os.Stderr, failure.Error())
		for field, description := range failure.Fields {
			fmt.Fprintf(os.Stderr, "  %s: %s\n", field, description)
		}
		os.Exit(1)
	}
}

func stream(ctx context.Context, target string, options lepton.Options, prompt string, tokens int32) error {
	connection, err := lepton.Dial(target, options)
	if err != nil {
		return err
	}
	defer connection.Close()
	request := &leptonv1.GenerateRequest{
		Prompt: &leptonv1.GenerateRequest_Text{Text: prompt},
		Stop:   &leptonv1.StopCriteria{MaxTokens: &tokens},
	}
	events, err := leptonv1.NewGenerationServiceClient(connection).Generate(ctx, request)
	if err != nil {
		return err
	}
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if delta := event.GetDelta(); delta != nil {
			fmt.Print(delta.GetText())
		}
		if finished := event.GetFinished(); finished != nil {
			fmt.Printf("\n[%s, %d tokens]\n", finished.GetReason(), finished.GetUsage().GetGeneratedTokens())
		}
	}
}
