// An HTTP server in Go that takes part in seamless restarts. The standard library is all that it needs.
//
//	go build -o daemon daemon.go
//	mkdir -p /run/app; seamless-run --pid-file /run/app/app.pid --listen http=127.0.0.1:8080 -- ./daemon
//	curl 'http://127.0.0.1:8080/?delay=5000ms'
//
// Restart it (under runit, say: `sv restart app`) while curl waits: curl gets its answer, and whoever comes next is answered by the new generation.
//
// It runs without seamless-run too: it opens 127.0.0.1:8080 by itself, nobody is told anything, and TERM or Ctrl-C
// ends it in the same way.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGINT)

	listener, err := listen()
	if err != nil {
		log.Fatal(err)
	}
	// A client that connects and asks nothing would be waited for in a drain.
	server := &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()

	say("started") // all that can fail has been done: now the predecessor is told to drain
	for <-signals == syscall.SIGUSR2 {
		say("prepared") // a successor will come: go on serving
	}

	// TERM: the successor serves, or this is a stop. Serve returns at once; only Shutdown returns when all that was in
	// hand has been answered. Who waits in the queue is the successor's.
	if err := server.Shutdown(context.Background()); err != nil {
		log.Print(err)
	}
}

// listen takes the first --listen, which is descriptor 3 (the next ones are 4, 5, …).
func listen() (net.Listener, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return net.Listen("tcp", "127.0.0.1:8080")
	}
	held := os.NewFile(3, "http")
	defer held.Close() // FileListener has a copy of its own
	return net.FileListener(held)
}

// say tells the keeper, our parent, and waits until that has taken effect. An error is never a reason to stop serving.
func say(word string) {
	if os.Getenv("SEAMLESS") == "" {
		return
	}
	// "ok", "error=" and why, or an end of file: we were not believed.
	if answer, err := ask("X_SEAMLESS=" + word); err != nil || answer != "ok" {
		log.Printf("%s: %v %v; serving on", word, answer, err)
	}
}

func ask(message string) (string, error) {
	keeper, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(keeper)
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	ours := os.NewFile(uintptr(pair[0]), "answer")
	defer ours.Close()
	address := &syscall.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")} // Go knows what "@" stands for
	err = syscall.Sendmsg(keeper, []byte(message), syscall.UnixRights(pair[1]), address, 0)
	syscall.Close(pair[1]) // ours ends when the keeper's copy does
	if err != nil {
		return "", err
	}
	patience := syscall.Timeval{Sec: 10}
	syscall.SetsockoptTimeval(pair[0], syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &patience)
	text := make([]byte, 4096)
	length, err := ours.Read(text)
	return string(text[:length]), err
}

func answer(response http.ResponseWriter, request *http.Request) {
	if delay, err := time.ParseDuration(request.URL.Query().Get("delay")); err == nil {
		time.Sleep(delay)
	}
	generation := os.Getenv("SEAMLESS_GENERATION")
	if generation == "" {
		generation = "-"
	}
	fmt.Fprintf(response, "pid %d generation %s\n", os.Getpid(), generation)
}
