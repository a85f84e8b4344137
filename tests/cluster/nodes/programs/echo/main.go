// Command echo answers HTTP on port 8080 with the name of its host; `?url=URL` asks it to fetch that and pass it on.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	name, err := os.Hostname()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	client := &http.Client{Timeout: 5 * time.Second}
	handler := func(writer http.ResponseWriter, request *http.Request) {
		url := request.URL.Query().Get("url")
		if url == "" {
			fmt.Fprint(writer, name)
			return
		}
		answer, err := client.Get(url)
		if err != nil {
			http.Error(writer, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		writer.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(writer, answer.Body)
	}
	server := &http.Server{Addr: ":8080", Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 5 * time.Second}
	told, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case <-told.Done():
		_ = server.Shutdown(context.Background())
	}
}
