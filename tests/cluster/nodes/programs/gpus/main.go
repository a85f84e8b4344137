// Command gpus is a device plugin that offers nvidia.com/gpu on a machine without one: `gpus COUNT`.
//
// What it allocates is a name in the container's environment, no device. A kubelet that starts again removes the
// plugin's socket and has forgotten it: the plugin sees that, and registers anew.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	resource = "nvidia.com/gpu"
	endpoint = "lepton-gpus.sock"
	poll     = 200 * time.Millisecond
)

type plugin struct {
	api.UnimplementedDevicePluginServer
	count int
}

func (p plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	devices := make([]*api.Device, p.count)
	for i := range devices {
		devices[i] = &api.Device{ID: fmt.Sprintf("gpu-%d", i), Health: api.Healthy}
	}
	if err := stream.Send(&api.ListAndWatchResponse{Devices: devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	answer := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		names := strings.Join(container.DevicesIds, ",")
		answer.ContainerResponses = append(answer.ContainerResponses,
			&api.ContainerAllocateResponse{Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": names}})
	}
	return answer, nil
}

func main() {
	if len(os.Args) != 2 {
		fail(errors.New("usage: gpus COUNT"))
	}
	count, err := strconv.Atoi(os.Args[1])
	if err != nil || count < 1 {
		fail(fmt.Errorf("COUNT must be a positive number, not %q", os.Args[1]))
	}
	for {
		if err := serve(plugin{count: count}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			time.Sleep(poll)
		}
	}
}

// serve offers the devices until the kubelet has removed the socket.
func serve(offered plugin) error {
	path := filepath.Join(api.DevicePluginPath, endpoint)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err // The folder is the kubelet's: it is there once the kubelet is.
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, offered)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	if err := register(); err != nil {
		return fmt.Errorf("no registration yet: %w", err)
	}
	fmt.Fprintln(os.Stderr, "registered")
	for {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(poll)
	}
}

func register() error {
	connection, err := grpc.NewClient("unix://"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	told, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request := &api.RegisterRequest{Version: api.Version, Endpoint: endpoint, ResourceName: resource}
	_, err = api.NewRegistrationClient(connection).Register(told, request)
	return err
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "gpus:", err)
	os.Exit(2)
}
