// A daemon as one that links the Go library rs/seamless: what the library does at each stage, in the same order, and no
// word of ours. It binds by itself, as such daemons do, or takes a held socket, as one of them may learn to.
//
//	daemon PID-FILE ADDRESS
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// Linux's SO_REUSEPORT, which package syscall does not have for every processor.
const reusePort = 15

func main() {
	pidFile, address := os.Args[1], os.Args[2]
	// Init. Otherwise the library would start the program a second time, and be the launcher.
	if os.Getenv("SEAMLESS") != strconv.Itoa(os.Getppid()) {
		fmt.Println("it would launch itself")
		os.Exit(1)
	}
	server := &http.Server{Handler: http.HandlerFunc(answer)}
	done := make(chan struct{})
	// The library does this in its goroutine, which on a busy machine may come to it after Started: a USR2 would be lost.
	prepare := make(chan os.Signal, 1)
	signal.Notify(prepare, syscall.SIGUSR2)
	go stages(server, prepare, done)

	listener, err := listen(address)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if os.Getenv("NEVER_STARTED") == "" {
		started(pidFile)
	}
	server.Serve(listener)
	<-done
}

// listen takes a held socket, if there is one.
func listen(address string) (net.Listener, error) {
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		return net.FileListener(os.NewFile(3, "held"))
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(descriptor uintptr) {
			failed = syscall.SetsockoptInt(int(descriptor), syscall.SOL_SOCKET, reusePort, 1)
		})
		if err == nil {
			err = failed
		}
		return err
	}}
	return config.Listen(context.Background(), "tcp", address)
}

// stages is what happens to a daemon: asked by USR2, answered by CHLD to the parent, and from then on TERM, or ten
// seconds, to drain. Before USR2 nobody catches TERM.
func stages(server *http.Server, prepare chan os.Signal, done chan struct{}) {
	<-prepare
	signal.Stop(prepare)
	fmt.Println(os.Getpid(), "prepares")
	// The library answers first, and may be told to drain before it listens.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	syscall.Kill(os.Getppid(), syscall.SIGCHLD)
	select {
	case <-signals:
		fmt.Println(os.Getpid(), "got TERM")
	case <-time.After(10 * time.Second):
		fmt.Println(os.Getpid(), "waited for ten seconds")
	}
	signal.Stop(signals) // a second TERM would end it
	server.Shutdown(context.Background())
	fmt.Println(os.Getpid(), "drained")
	close(done)
}

// started is Started: whoever is named in the file is told to drain, and the file names this one.
func started(pidFile string) {
	if text, err := os.ReadFile(pidFile); err == nil {
		os.Remove(pidFile)
		var pid int
		// The keeper has written a newline behind the number.
		if _, err := fmt.Sscan(string(text), &pid); err == nil && syscall.Kill(pid, 0) == nil {
			syscall.Kill(pid, syscall.SIGTERM)
		}
	}
	os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())), 0644)
}

func answer(response http.ResponseWriter, request *http.Request) {
	if delay, err := time.ParseDuration(request.URL.Query().Get("delay")); err == nil {
		time.Sleep(delay)
	}
	fmt.Fprintf(response, "pid %d generation %s\n", os.Getpid(), os.Getenv("SEAMLESS_GENERATION"))
}
